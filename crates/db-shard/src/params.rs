use crate::Value;

/// What stands for one `?` of a statement.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Param {
    /// One value.
    One(Value),
    /// The members of an `IN (?)`. The list is padded to the next power of two
    /// by repeating its last member, so that lists of many lengths share few
    /// statement texts; an empty list matches nothing.
    List(Vec<Value>),
    /// The rows of an `INSERT … VALUES ?`.
    Rows(Vec<Vec<Value>>),
}

impl Param {
    pub(crate) fn into_one(self) -> Option<Value> {
        match self {
            Self::One(value) => Some(value),
            Self::List(_) | Self::Rows(_) => None,
        }
    }
}

impl<T: Into<Value>> From<T> for Param {
    fn from(value: T) -> Self {
        Self::One(value.into())
    }
}

/// Returns the parameter for an `IN (?)`.
///
/// # Example
///
/// ```
/// use trine_db_shard::{IntoParams, list};
///
/// let params = ("paid", list([7, 8, 9])).into_params();
/// assert_eq!(params.len(), 2);
/// ```
pub fn list<T: Into<Value>>(members: impl IntoIterator<Item = T>) -> Param {
    Param::List(members.into_iter().map(Into::into).collect())
}

/// Returns the parameter for the rows of an `INSERT … VALUES ?`.
pub fn rows<const N: usize>(rows: impl IntoIterator<Item = [Value; N]>) -> Param {
    Param::Rows(rows.into_iter().map(Vec::from).collect())
}

/// The parameters of a statement, in the order of its question marks: a tuple
/// of values, an array or a vector of one type, or `()`.
pub trait IntoParams {
    /// Returns the parameters.
    fn into_params(self) -> Vec<Param>;
}

impl IntoParams for () {
    fn into_params(self) -> Vec<Param> {
        Vec::new()
    }
}

impl<T: Into<Param>> IntoParams for Vec<T> {
    fn into_params(self) -> Vec<Param> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Param>, const N: usize> IntoParams for [T; N] {
    fn into_params(self) -> Vec<Param> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuple_params {
    ($($name:ident),+) => {
        impl<$($name: Into<Param>),+> IntoParams for ($($name,)+) {
            #[expect(non_snake_case, reason = "the macro names variables like their types")]
            fn into_params(self) -> Vec<Param> {
                let ($($name,)+) = self;
                vec![$($name.into()),+]
            }
        }
    };
}

tuple_params!(A);
tuple_params!(A, B);
tuple_params!(A, B, C);
tuple_params!(A, B, C, D);
tuple_params!(A, B, C, D, E);
tuple_params!(A, B, C, D, E, F);
tuple_params!(A, B, C, D, E, F, G);
tuple_params!(A, B, C, D, E, F, G, H);
tuple_params!(A, B, C, D, E, F, G, H, I);
tuple_params!(A, B, C, D, E, F, G, H, I, J);
tuple_params!(A, B, C, D, E, F, G, H, I, J, K);
tuple_params!(A, B, C, D, E, F, G, H, I, J, K, L);
