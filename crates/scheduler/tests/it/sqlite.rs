//! The suite on SQLite, a file that is synced.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use trine_core::{Clock, ManualClock};
use trine_db_shard::{Database, DatabaseName, DbConfig, SqliteBackend, SqliteConfig};
use trine_scheduler::conformance::Fixture;
use trine_scheduler::{
    AttemptEnd, Call, Definition, Finish, Overlap, SchedulerBackend, SqlBackend, Terms, migrations,
};

use crate::complete::{LONG, Peer, SHORT, id};

/// A database with the tables.
pub(crate) async fn database(folder: &TempDir) -> Database {
    database_in(folder.path()).await
}

pub(crate) async fn database_in(folder: &Path) -> Database {
    let name = DatabaseName::Named("jobs".into());
    let file = SqliteConfig::new(folder.join("jobs.db"));
    let engine = SqliteBackend::open(&name, &file).unwrap();
    let database = Database::with_backend("jobs", engine, &DbConfig::sqlite(folder, 0));
    database.migrate_with(&migrations()).await.unwrap();
    database
}

async fn connect() -> Fixture {
    let folder = TempDir::new().unwrap();
    let database = database(&folder).await;
    let clock = Arc::new(ManualClock::new());
    let of_store: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let backend = move || {
        let name = Fixture::NAME.into();
        Arc::new(SqlBackend::with_clock(&name, database.clone(), Arc::clone(&of_store))) as _
    };
    Fixture::new(backend, folder).with_clock(clock)
}

trine_scheduler::conformance_tests!(suite, super::connect);

/// A revision has less of it run at once than did when it was claimed.
#[tokio::test]
async fn a_lost_run_of_a_crowded_job_waits_for_the_others() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::new("a", database(&folder).await).await;
    peer.register("x", "once 9000-01-01T00:00:00Z").await;
    peer.trigger("x").await;
    let lost = peer.claim_one(SHORT).await;
    peer.trigger("x").await;
    let held = peer.claim_one(LONG).await;
    let mut fewer = Definition::new(id("x"), 2, Terms::new("once now".parse().unwrap()));
    fewer.terms.overlap = Overlap::QueueOne;
    let call = Call::new("register");
    peer.store.register(call, &peer.process, &[Arc::new(fewer)]).await.unwrap();
    tokio::time::sleep(SHORT + SHORT / 10).await;
    assert_eq!(peer.claim(LONG).await, []);
    let end = [Finish::new(&held, AttemptEnd::Succeeded, None)];
    peer.store.finish(Call::new("finish"), &end).await.unwrap();
    let again = peer.claim_one(LONG).await;
    assert_eq!((again.nominal, again.attempt), (lost.nominal, 2));
}
