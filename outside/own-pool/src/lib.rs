//! A shop that has had its own sqlx pool for years: orders are its own
//! statements, each payment is taken once.

use trine_core::{MigrationScope, MigrationSet, MigrationStep};
use trine_db_shard::{Database, Inbox, Once, Result};

/// Makes the tables: its own, and those of the inbox.
pub async fn migrate(db: &Database) -> Result<()> {
    let orders = MigrationSet::new("orders", MigrationScope::Global).step(
        MigrationStep::new(1, "orders").on(
            "mysql",
            ["CREATE TABLE orders (id BIGINT PRIMARY KEY, paid BIGINT NOT NULL) ENGINE=InnoDB"],
        ),
    );
    db.migrate_with(&[orders]).await?;
    Ok(())
}

/// Books a payment; a repeated message changes nothing.
pub async fn pay(db: &Database, message: &str, order: i64, amount: i64) -> Result<Once> {
    let inbox = Inbox::new("payments");
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
