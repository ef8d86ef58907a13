//! Migrations: canary, resume, one runner at a time, drift, scripts.

#[cfg(feature = "mysql")]
mod mariadb;
#[cfg(feature = "sqlite")]
mod sqlite;

use trine_core::{MigrationScope, MigrationSet, MigrationStep};
use trine_db_shard::{DatabaseName, MigrationReport, ShardId};

/// A table and its first row, in two steps.
fn orders() -> MigrationSet {
    MigrationSet::new("orders", MigrationScope::Shards)
        .step(
            MigrationStep::new(1, "create orders")
                .on(
                    "sqlite",
                    [
                        "CREATE TABLE sku (id INTEGER PRIMARY KEY)",
                        "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)",
                        "CREATE INDEX orders_item ON orders (item)",
                    ],
                )
                .on(
                    "mysql",
                    [
                        "CREATE TABLE sku (id BIGINT NOT NULL PRIMARY KEY)",
                        "CREATE TABLE orders (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
                         item VARCHAR(20) NOT NULL, KEY orders_item (item))",
                    ],
                ),
        )
        .step(
            MigrationStep::new(2, "it's the first order")
                .on("sqlite", ["INSERT INTO orders (item) VALUES ('first')"])
                .on("mysql", ["INSERT INTO orders (item) VALUES ('first')"]),
        )
}

fn shard(id: u32) -> DatabaseName {
    DatabaseName::Shard(ShardId::new(id))
}

/// Returns how many steps of `owner` the runs have applied together.
fn applied(reports: &[MigrationReport], owner: &str) -> usize {
    let databases = reports.iter().flat_map(|report| &report.databases);
    databases.flat_map(|database| &database.applied).filter(|step| &*step.owner == owner).count()
}
