use crate::backend::mysql::MysqlTransaction;
use crate::{Error, Result, Tx};

impl Tx {
    /// Lends the connection of a MySQL or MariaDB transaction to statements
    /// that the host runs by sqlx 0.9. They belong to the transaction; do not
    /// end it with them.
    ///
    /// After a future of the driver's was dropped half-way, the next call of
    /// the transaction makes sure that the next answer is its own, or finds the
    /// transaction broken. The dropped statement is not killed on the server
    /// before the transaction ends.
    ///
    /// # Errors
    ///
    /// Fails with `Unsupported` on another engine, and with what forbids the
    /// transaction to go on.
    pub fn as_mysql(&mut self) -> Result<&mut sqlx::MySqlConnection> {
        const OPERATION: &str = "as_mysql";
        let (at, engine) = (self.database().at(OPERATION), self.engine());
        let open = self.open_mut(OPERATION)?;
        let call = open.call(OPERATION);
        match open.backend.as_any_mut().downcast_mut::<MysqlTransaction>() {
            Some(transaction) => transaction.driver(&call),
            None => Err(Error::Unsupported {
                at,
                what: "the connection of sqlx's MySQL driver",
                engine: engine.as_str(),
            }),
        }
    }
}
