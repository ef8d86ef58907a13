//! What a call pays to find the shard of a key that this process knows.

use std::hint::black_box;

use tokio::time::Instant;
use trine_db_shard::{DbConfig, DbService};

const KEYS: u64 = 10_000;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = DbService::connect(&DbConfig::sqlite(&folder, 4)).await.expect("a service");
    for key in 0..KEYS {
        db.assign(key).await.expect("a shard");
    }
    for round in 0..5 {
        for key in 0..KEYS {
            db.for_key(key).await.expect("a known key");
        }
        let began = Instant::now();
        for key in 0..KEYS {
            black_box(db.for_key(black_box(key)).await.expect("a known key"));
        }
        let each = began.elapsed().as_nanos() / u128::from(KEYS);
        println!("round {round}: {each} ns per known key");
    }
}
