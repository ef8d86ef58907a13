use std::time::Duration;

use trine_core::Deadline;
use trine_db_shard::{DbConfig, DbService, Result};

#[tokio::main]
async fn main() -> Result<()> {
    // One global database and four shards, as files below a folder.
    let db = DbService::connect(&DbConfig::sqlite("data", 4)).await?;
    for shard in db.shards() {
        let create = "CREATE TABLE IF NOT EXISTS note (owner INTEGER, text TEXT)";
        db.shard(shard.id)?.execute(create, ()).await?;
    }

    // Account 7 gets its shard once, and keeps it.
    db.assign(7_u64).await?;
    let notes = db.for_key(7_u64).await?;
    let count: u64 = notes
        .transaction(|mut tx| async move {
            tx.execute("INSERT INTO note (owner, text) VALUES (?, ?)", (7, "hello")).await?;
            tx.query_one("SELECT COUNT(*) FROM note WHERE owner = ?", (7,)).await
        })
        .await?;
    println!("{count} notes");
    db.shutdown(Deadline::after(Duration::from_secs(5))).await
}
