use crate::{Error, Result, ShardId};

/// What many shards answered.
#[derive(Debug)]
#[must_use = "some shards may have failed"]
#[non_exhaustive]
pub struct FanOut<T> {
    /// The rows, each with the shard it came from.
    pub rows: Vec<(ShardId, T)>,
    /// The shards that are missing, in the order of their numbers, and why.
    /// Always empty under [`Partial::Fail`](crate::Partial::Fail).
    pub failed: Vec<(ShardId, Error)>,
}

impl<T> FanOut<T> {
    /// Tells whether every shard answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Returns the rows without their shards.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first shard that is missing.
    pub fn into_complete(self) -> Result<Vec<T>> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.rows.into_iter().map(|(_, row)| row).collect()),
        }
    }
}

/// One value over many shards.
#[derive(Debug)]
#[must_use = "some shards may have failed"]
#[non_exhaustive]
pub struct FanOutValue<T> {
    /// The value over the shards that answered.
    pub value: T,
    /// The shards that are missing, in the order of their numbers, and why.
    /// Always empty under [`Partial::Fail`](crate::Partial::Fail).
    pub failed: Vec<(ShardId, Error)>,
}

impl<T> FanOutValue<T> {
    /// Tells whether every shard answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Returns the value over all shards.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first shard that is missing.
    pub fn into_complete(self) -> Result<T> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.value),
        }
    }
}
