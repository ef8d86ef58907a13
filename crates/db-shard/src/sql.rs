mod expand;
mod scan;
mod token;

use std::fmt;
use std::sync::Arc;

pub(crate) use expand::expand;
pub(crate) use scan::{Shape, TEMPORARY, Verb};

/// SQLite's clock in microseconds, for [`concat!`].
macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}
pub(crate) use sqlite_now;

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Engine {
    /// SQLite 3 in this process.
    Sqlite,
    /// MySQL 8 or MariaDB.
    Mysql,
}

impl Engine {
    /// Returns the stable name, such as `"sqlite"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Mysql => "mysql",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One statement: a text that every engine understands, or a text per engine.
///
/// SQL is never translated. A text in the common subset (see the guide) runs
/// everywhere; where engines differ, write it once for each. Only parameters
/// are expanded: [`list`](crate::list) for `IN (?)` and
/// [`rows`](crate::rows) for `VALUES ?`.
///
/// # Example
///
/// ```
/// use trine_db_shard::Sql;
///
/// const BY_ID: Sql = Sql::portable("SELECT name FROM account WHERE id = ?");
/// const TOUCH: Sql = Sql::per_engine()
///     .sqlite("INSERT INTO seen (id) VALUES (?) ON CONFLICT DO NOTHING")
///     .mysql("INSERT IGNORE INTO seen (id) VALUES (?)");
/// # let _ = (BY_ID, TOUCH);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sql {
    portable: Option<&'static str>,
    sqlite: Option<&'static str>,
    mysql: Option<&'static str>,
}

impl Sql {
    /// Returns a statement whose text every engine understands.
    #[must_use]
    pub const fn portable(text: &'static str) -> Self {
        Self { portable: Some(text), sqlite: None, mysql: None }
    }

    /// Returns a statement without a text; add one per engine.
    #[must_use]
    pub const fn per_engine() -> Self {
        Self { portable: None, sqlite: None, mysql: None }
    }

    /// Returns a statement whose text was put together at run time.
    ///
    /// Never put input into the text: bind it. Such statements are prepared
    /// anew at each call, so that they do not crowd out constant ones.
    #[must_use]
    pub fn dynamic(text: impl Into<Arc<str>>) -> SqlText {
        SqlText(Text::Dynamic(text.into()))
    }

    /// Sets the text for SQLite.
    #[must_use]
    pub const fn sqlite(mut self, text: &'static str) -> Self {
        self.sqlite = Some(text);
        self
    }

    /// Sets the text for MySQL and MariaDB.
    #[must_use]
    pub const fn mysql(mut self, text: &'static str) -> Self {
        self.mysql = Some(text);
        self
    }

    /// Returns the text for `engine`, if there is one.
    #[must_use]
    pub const fn text(&self, engine: Engine) -> Option<&'static str> {
        let own = match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Mysql => self.mysql,
        };
        if own.is_some() { own } else { self.portable }
    }
}

/// What a statement method takes: an [`Sql`], a `&'static str` as the
/// [portable](Sql::portable) text, or a [dynamic](Sql::dynamic) one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlText(Text);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Constant(Sql),
    Dynamic(Arc<str>),
}

impl SqlText {
    /// Returns the text for `engine`, if there is one.
    pub(crate) fn resolve(&self, engine: Engine) -> Option<StatementText> {
        match &self.0 {
            Text::Constant(sql) => sql.text(engine).map(StatementText::constant),
            Text::Dynamic(text) => Some(StatementText::dynamic(Arc::clone(text))),
        }
    }
}

impl From<Sql> for SqlText {
    fn from(sql: Sql) -> Self {
        Self(Text::Constant(sql))
    }
}

impl From<&'static str> for SqlText {
    fn from(text: &'static str) -> Self {
        Sql::portable(text).into()
    }
}

/// A text for one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementText {
    repr: Repr,
    is_reused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    Static(&'static str),
    Shared(Arc<str>),
}

impl StatementText {
    /// Returns a text that is part of the program.
    #[must_use]
    pub const fn constant(text: &'static str) -> Self {
        Self { repr: Repr::Static(text), is_reused: true }
    }

    /// Returns a text that was put together at run time.
    #[must_use]
    pub const fn dynamic(text: Arc<str>) -> Self {
        Self { repr: Repr::Shared(text), is_reused: false }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.repr {
            Repr::Static(text) => text,
            Repr::Shared(text) => text,
        }
    }

    pub(crate) fn shape(&self, engine: Engine) -> Shape {
        match &self.repr {
            Repr::Static(text) => Shape::of_constant(text, engine),
            Repr::Shared(text) => Shape::of(text, engine),
        }
    }

    /// Tells whether the same text comes again, so that a prepared statement
    /// is worth keeping. Lists are written out in few lengths and count.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Returns the text with its parameters written out.
    pub(crate) fn written_out(&self, text: String) -> Self {
        Self { repr: Repr::Shared(text.into()), is_reused: self.is_reused }
    }

    /// Hands the text to the driver. The only place that vouches for a text:
    /// it came from the program, or from [`Sql::dynamic`].
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    pub(crate) fn to_driver(&self) -> sqlx::SqlStr {
        match &self.repr {
            Repr::Static(text) => sqlx::SqlSafeStr::into_sql_str(*text),
            Repr::Shared(text) => {
                sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(Arc::clone(text)))
            }
        }
    }
}
