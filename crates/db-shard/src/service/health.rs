use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use trine_core::{Health, HealthStatus, Probe, Report, State};

use super::DbService;
use crate::{Database, DatabaseName, ShardStatus};

/// Longest check of one database.
const CHECK: Duration = Duration::from_secs(2);

/// Least time between two checks of one database.
const INTERVAL: Duration = Duration::from_secs(1);

/// One check for each database, so that none blocks another.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<BTreeMap<Box<str>, Probe>>);

impl Probes {
    fn get(&self, name: &DatabaseName) -> Probe {
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let probe = probes.entry(name.to_string().into());
        probe.or_insert_with(|| Probe::new(CHECK, INTERVAL)).clone()
    }
}

impl DbService {
    /// Checks every database side by side, each with one round trip that is
    /// bounded and shared by concurrent callers.
    ///
    /// Down if the global database is; degraded if a shard is, if the shard
    /// map is older than its lease, or if a server refuses writes.
    pub async fn health(&self) -> Health {
        let map = self.shared.map.load_full();
        let shards = map.shards.values().map(|shard| &shard.database);
        let databases = std::iter::once(self.global()).chain(shards);
        let checks =
            databases.map(|database| async move { (database, self.check(database).await) });
        let mut health = Health::up();
        for (database, part) in join_all(checks).await {
            let name = database.name().to_string();
            if *database.name() == DatabaseName::Global {
                health.latency = part.latency;
                health = health.with_part(name, &part);
            } else {
                health = health.with_optional_part(name, &part);
            }
        }
        for (id, left_out) in &map.left_out {
            let name = DatabaseName::Shard(*id).to_string();
            health = health.with_optional_part(name, &Health::down(&left_out.why));
        }
        let lease = self.shared.config.map.lease.get();
        let progress = self.shared.map_progress.health(lease);
        if progress.status > HealthStatus::Up && self.state() == State::Running {
            health.status = health.status.max(HealthStatus::Degraded);
            health.error.get_or_insert_with(|| "the shard map is older than its lease".to_owned());
        }
        let age = self.shared.map_progress.age();
        health.with_detail("map_age_ms", u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    async fn check(&self, database: &Database) -> Health {
        if database.status() == ShardStatus::Offline {
            return Health::up().with_detail("status", ShardStatus::Offline.as_str());
        }
        let mut health = self.shared.probes.get(database.name()).check(|| observe(database)).await;
        // It answers, and yet no call is let in.
        if let Some(why) = database.shared().status.failure()
            && health.status == HealthStatus::Up
        {
            health.status = HealthStatus::Degraded;
            health.error.get_or_insert_with(|| why.into());
        }
        let stats = database.stats();
        health
            .with_detail("status", database.status().as_str())
            .with_detail("proved", database.shared().status.is_proved())
            .with_detail("pool_max", stats.max)
            .with_detail("pool_size", stats.size)
            .with_detail("pool_idle", stats.idle)
            .with_detail("pool_waiting", stats.waiting)
    }
}

async fn observe(database: &Database) -> Health {
    let backend = database.shared().backend();
    match backend.prove(database.own_call("health")).await {
        Ok(facts) => {
            let health = if facts.is_read_only && database.status().can_write() {
                Health::degraded("the server refuses writes")
            } else {
                Health::up()
            };
            health
                .with_detail("version", &*facts.version)
                .with_detail("durability", facts.durability.to_string())
        }
        Err(error) => Health::down(Report(&error)),
    }
}
