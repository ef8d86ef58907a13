//! Committed writes per second on SQLite: groups of many callers against
//! groups of one, and what the device syncs.

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use trine_bench::{Rounds, compare, operation};
use trine_core::{Durability, Span};
use trine_db_shard::{ConnectionConfig, DbConfig, DbService};

const TASKS: usize = 64;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir_in(".").expect("a folder on the device under test");
    println!("fdatasync of 4 KiB appends: {:.0}/s", syncs_per_second(folder.path()));
    let window = Span::secs(1);
    let synced = open(folder.path(), "synced", Durability::Synced, 256).await;
    let alone = open(folder.path(), "alone", Durability::Synced, 1).await;
    let relaxed = open(folder.path(), "async", Durability::Async { window }, 256).await;
    let competitors = [
        ("synced, groups of up to 256", writes(synced)),
        ("synced, groups of one", writes(alone)),
        ("async(1s), groups of up to 256", writes(relaxed)),
    ];
    compare("200-byte inserts", TASKS, Rounds::from_args(), &competitors).await;
}

async fn open(folder: &Path, name: &str, durability: Durability, group: u32) -> DbService {
    let mut config = DbConfig::sqlite(folder.join(name), 0).with_durability(durability);
    for connection in config.connections.values_mut() {
        if let ConnectionConfig::Sqlite(sqlite) = connection {
            sqlite.group = NonZeroU32::new(group).expect("not zero");
        }
    }
    let service = DbService::connect(&config).await.expect("a service");
    let create = "CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";
    service.global().execute(create, ()).await.expect("a table");
    service
}

fn writes(service: DbService) -> trine_bench::Operation {
    let text = "x".repeat(200);
    operation(move |_| {
        let (service, text) = (service.clone(), text.clone());
        async move {
            let insert = "INSERT INTO item (text) VALUES (?)";
            service.global().execute(insert, (text,)).await.expect("a row");
        }
    })
}

fn syncs_per_second(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("probe")).expect("a file");
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0; 4096]).expect("a write");
        file.sync_data().expect("a sync");
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}
