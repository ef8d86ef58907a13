use trine::{Builder, Db, Error, Loader, Lock, Redis};
use trine_core::{Deadline, HealthStatus, Report};
use trine_lock::{LockOptions, TryAcquireOutcome};

use crate::fake::SECOND;
use crate::redis::connection;

/// Takes a key and gives it back.
async fn works(locks: &trine_lock::LockService) {
    let outcome = locks.acquire("order:42", LockOptions::default()).await.unwrap();
    let trine_lock::AcquireOutcome::Acquired(guard) = outcome else { panic!("{outcome:?}") };
    assert!(guard.fence().key().starts_with(locks.name()), "{:?}", guard.fence());
    let second = locks.try_acquire("order:42", LockOptions::default()).await.unwrap();
    assert!(matches!(second, TryAcquireOutcome::Held(_)), "{second:?}");
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_every_kind_start_work_and_stop_from_their_sections() {
    let folder = tempfile::tempdir().unwrap();
    let server = trine_testkit::Redis::shared().await.unwrap();
    let mut builder = Builder::new();
    let db = builder.add(
        trine_lock::migrations().into_iter().fold(Db::new(), |db, set| db.with_migrations(set)),
    );
    builder.add_as("main", Redis::new());
    builder.add(Lock::new());
    builder.add_as("shared", Lock::new());
    builder.add_as("rows", Lock::new());
    let loader = Loader::new().with_defaults(format!(
        "[lock]\nbackend = {{ kind = 'memory' }}\n\
         [lock.shared]\nbackend = {{ kind = 'redis', clock_margin = '0s' }}\n\
         [lock.rows]\nbackend = {{ kind = 'sql' }}\n\
         [db]\nmigrate = 'auto'\n\
         [database.global]\nkind = 'sqlite'\npath = '{}'",
        folder.path().join("global.db").display()
    ));
    let loader = connection(loader, &server.namespace(), &server.url());
    let container = builder.configure(&loader).unwrap().build().unwrap();
    container.start().await.unwrap();
    let shared = container.lock_instance("shared").unwrap();
    let rows = container.lock_instance("rows").unwrap();
    for locks in [&container.lock().unwrap(), &shared, &rows] {
        works(locks).await;
    }
    assert_eq!(rows.name(), "lock.rows");
    assert_eq!(db.name(), "db.default");
    let health = container.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    assert!(health.details.contains_key("lock.shared"), "{health:?}");
    container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
    assert!(shared.try_acquire("k", LockOptions::default()).await.is_err(), "it is closed");
}

#[test]
fn typos_and_broken_rules_of_locks_are_listed_at_once() {
    let mut builder = Builder::new();
    builder.add(Lock::new());
    builder.add_as("local", Lock::new());
    let loader = Loader::new().with_defaults(
        "[lock]\ntll = '5m'\nbackend = { kind = 'etcd' }\n\
         [lock.local]\nttl = '1ms'\nbackend = { kind = 'memory' }",
    );
    let error = builder.configure(&loader).unwrap_err().to_string();
    for expected in [
        "lock.tll: unknown key; did you mean `ttl`?",
        "lock.backend.kind: expected one of `memory`, `redis`, `sql`",
        "lock.local.ttl: 1ms is not between 100ms and max_ttl (10m)",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn what_locks_are_on_has_to_be_there() {
    for (backend, setting) in [
        ("{ kind = 'redis', connection = 'mian' }", "lock.backend.connection"),
        ("{ kind = 'sql', database = 'orders' }", "lock.backend.database"),
    ] {
        let mut builder = Builder::new();
        builder.add(Lock::new());
        let loader = Loader::new().with_defaults(format!("[lock]\nbackend = {backend}"));
        let error = builder.configure(&loader).unwrap_err().to_string();
        assert!(error.contains(setting), "{setting} is not in {error}");
    }
    let container = Builder::new().configure(&Loader::new()).unwrap().build().unwrap();
    let error = container.lock().unwrap_err();
    assert!(
        matches!(&error, Error::Missing { key } if key == "lock.default"),
        "{}",
        Report(&error)
    );
}
