use redis::aio::MultiplexedConnection;
use trine_core::CallContext;

use crate::link::Trouble;
use crate::slot::slot;
use crate::{Access, RedisPool, Result, Route, Value};

impl RedisPool {
    /// Returns the connection that commands on this route share, for what this
    /// crate has no method for.
    ///
    /// It is everybody's: commands that block or change the connection harm all
    /// others. It does not come back when it breaks and follows no key that has
    /// moved; ask for another one then.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run) for what was not sent.
    pub async fn raw(&self, route: Route<'_>) -> Result<MultiplexedConnection> {
        const OPERATION: &str = "raw";
        let _call = self.enter(OPERATION)?;
        let until = CallContext::current().deadline();
        let slot = match route {
            Route::Key(key) => Some(slot(key)),
            Route::Any => None,
        };
        let failed = |trouble: Trouble| trouble.into_error(self.at(OPERATION), Access::Read);
        let node = self.shared.topology.node(slot).map_err(failed)?;
        let live = node.connected(&self.shared.tasks, until).await.map_err(failed)?;
        Ok(live.connection.clone())
    }
}

impl From<redis::Value> for Value {
    fn from(value: redis::Value) -> Self {
        Self::new(value)
    }
}
