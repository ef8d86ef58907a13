//! A shop that has had its own sqlx pool for years: orders are its own
//! statements, each payment is taken once.

use sqlx::MySqlPool;
use trine_core::{MigrationScope, MigrationSet, MigrationStep};
use trine_db_shard::{Database, Inbox, Once, Result};

/// Makes the tables: its own, and those of the inbox.
pub async fn migrate(pool: &MySqlPool) -> Result<()> {
    let orders = MigrationSet::new("orders", MigrationScope::Global).step(
        MigrationStep::new(1, "orders").on(
            "mysql",
            ["CREATE TABLE orders (id BIGINT PRIMARY KEY, paid BIGINT NOT NULL) ENGINE=InnoDB"],
        ),
    );
    Database::from_mysql_pool(pool.clone()).migrate_with(&[orders]).await?;
    Ok(())
}

/// Books a payment; a repeated message changes nothing.
pub async fn pay(pool: &MySqlPool, message: &str, order: i64, amount: i64) -> Result<Once> {
    let inbox = Inbox::new("payments");
    let db = Database::from_mysql_pool(pool.clone());
    db.transaction(|mut tx| {
        let inbox = &inbox;
        async move {
            let once = inbox.once(&mut tx, message).await?;
            if once == Once::First {
                let pay = "UPDATE orders SET paid = paid + ? WHERE id = ?";
                tx.execute(pay, (amount, order)).await?;
            }
            Ok(once)
        }
    })
    .await
}
