use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use trine_core::Durability;
use trine_db_shard::{Database, DbConfig, DbDeps, DbService, migrate};
use trine_scheduler::{Job, SchedulerConfig, SchedulerDeps, SchedulerService, migrations};

/// The stores that are compared.
pub(crate) const STORES: [&str; 2] = ["memory", "sqlite synced"];

/// Returns a database with the tables, in a file of its own.
pub(crate) async fn database(folder: &Path) -> Database {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = folder.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    let config = DbConfig::sqlite(folder, 0).with_durability(Durability::Synced);
    let migrated = migrate(&config, &migrations()).await.expect("the tables");
    assert!(migrated.is_complete(), "{migrated:?}");
    let deps = migrations().into_iter().fold(DbDeps::default(), DbDeps::with_migrations);
    let service = DbService::open(&config, deps).expect("a database");
    service.start().await.expect("a start");
    service.global().clone()
}

/// Returns a running scheduler with these jobs.
pub(crate) async fn scheduler(store: &str, folder: &Path, jobs: Vec<Job>) -> SchedulerService {
    let deps = SchedulerDeps::default();
    let (config, deps) = if store == "memory" {
        (SchedulerConfig::memory(), deps)
    } else {
        (SchedulerConfig::database(), deps.with_database(database(folder).await))
    };
    let service = SchedulerService::open(&config, deps).expect("a scheduler");
    service.start().await.expect("a start");
    service.register_all(jobs).await.expect("the jobs");
    service
}
