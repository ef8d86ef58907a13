use std::pin::pin;

use futures_util::future::join_all;
use tokio::time::timeout;
use trine_core::{Deadline, ErrorKind};
use trine_testkit::Ledger;

use super::*;

fn soon() -> Deadline {
    Deadline::after(BOUND)
}

#[tokio::test]
async fn a_second_handle_learns_who_has_the_database_until_it_is_closed() {
    let db = Db::new().await;
    let second = open(&config(db.path()));
    for _ in 0..2 {
        let error = second.prove(call()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("held by this process"), "{error}");
    }
    assert_eq!(second.run(call(), read("SELECT 1")).await.unwrap_err().kind(), ErrorKind::Conflict);
    db.backend.close(soon()).await;
    second.prove(call()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_handle_gives_the_database_up() {
    let db = Db::new().await;
    let Db { backend, folder } = db;
    drop(backend);
    let second = open(&config(folder.path()));
    for _ in 0..100 {
        // Its task ends when the runtime gets to it.
        if second.prove(call()).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("still held");
}

#[tokio::test]
async fn a_closed_handle_refuses_everything_and_leaves_no_log_behind() {
    let db = Db::new().await;
    db.run(insert(1)).await.unwrap();
    db.ids().await;
    tokio::join!(db.backend.close(soon()), db.backend.close(soon()));
    db.backend.close(soon()).await;
    let write = db.run(insert(2)).await.unwrap_err();
    let read = db.run(read("SELECT 1")).await.unwrap_err();
    let prove = db.backend.prove(call()).await.unwrap_err();
    for error in [write, read, prove] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    assert!(!db.path().join("test.db-wal").exists());
    let stats = db.backend.stats();
    assert_eq!((stats.size, stats.idle), (0, 0));
}

#[tokio::test]
async fn a_handle_that_was_never_used_closes() {
    let folder = TempDir::new().unwrap();
    let backend = open(&config(folder.path()));
    backend.close(soon()).await;
    assert_eq!(backend.prove(call()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!folder.path().join("test.db").exists());
}

#[tokio::test]
async fn closing_under_load_finishes_what_it_took_and_loses_nothing() {
    let db = Db::new().await;
    let ledger = Ledger::in_memory();
    let writers = join_all((0..32_i64).map(|writer| {
        let (db, ledger) = (&db, &ledger);
        async move {
            for step in 0.. {
                let id = step * 32 + writer;
                ledger.attempt(id).unwrap();
                match db.run(insert(id)).await {
                    Ok(_) => ledger.acknowledge(id).unwrap(),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                        ledger.refuse(id).unwrap();
                        return;
                    }
                }
            }
        }
    }));
    tokio::join!(writers, async {
        sleep(Duration::from_millis(100)).await;
        db.backend.close(soon()).await;
    });
    let again = Db { backend: open(&config(db.path())), folder: db.folder };
    let audit = ledger.check(again.ids().await);
    assert!(audit.is_clean(), "{audit:?}");
    assert!(audit.acknowledged > 0);
}

#[tokio::test]
async fn closing_ends_what_does_not_end_by_itself() {
    let db = Db::with(|config| config.hold_limit = Span::secs(60)).await;
    let mut tx = db.backend.begin(call(), Default::default()).await.unwrap();
    tx.run(call(), insert(1)).await.unwrap();
    let reading = db.run(read(ENDLESS));
    let waiting = db.run(insert(2));
    let (reading, waiting, ()) = tokio::join!(reading, waiting, async {
        db.until_waiting(1).await;
        db.backend.close(Deadline::after(Duration::from_secs(4))).await;
    });
    assert_eq!(reading.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(waiting.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(tx.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    // There was time left to put everything in order.
    assert!(!db.path().join("test.db-wal").exists());
    let again = Db { backend: open(&config(db.path())), folder: db.folder };
    assert!(again.ids().await.is_empty());
}

#[tokio::test]
async fn closing_waits_a_little_for_a_reader_that_was_cut_off() {
    let db = Db::new().await;
    db.run(insert(1)).await.unwrap();
    let mut reading = pin!(db.run(read(ENDLESS)));
    assert!(timeout(Duration::from_millis(50), &mut reading).await.is_err());
    let is_cut = async {
        // The cut comes at three quarters; the reader's task is busy elsewhere.
        sleep(Duration::from_millis(3300)).await;
        assert_eq!(reading.await.unwrap_err().kind(), ErrorKind::Interrupted);
    };
    tokio::join!(is_cut, db.backend.close(Deadline::after(Duration::from_secs(4))));
    assert!(!db.path().join("test.db-wal").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_unavailable() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let backend = open(&config(&folder.path().join("file")));
    let error = backend.prove(call()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_invalid() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("test.db"), "x".repeat(10_000)).unwrap();
    let backend = open(&config(folder.path()));
    let error = backend.prove(call()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[test]
fn a_configuration_that_cannot_be_kept_is_refused() {
    let name = DatabaseName::Global;
    assert!(SqliteBackend::open(&name, &SqliteConfig::new("")).is_err());
    let mut config = SqliteConfig::new("test.db");
    config.durability = Durability::Memory;
    assert_eq!(SqliteBackend::open(&name, &config).unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn facts_name_version_and_durability() {
    let db =
        Db::with(|config| config.durability = Durability::Async { window: Span::millis(20) }).await;
    let facts = db.backend.prove(call()).await.unwrap();
    assert!(facts.version.starts_with("SQLite 3."), "{}", facts.version);
    assert_eq!(facts.durability, Durability::Async { window: Span::millis(20) });
    assert!(!facts.is_read_only);
    db.run(insert(1)).await.unwrap();
    db.backend.close(soon()).await;
}

#[test]
fn a_handle_outlives_the_runtime_that_first_used_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let db = first.block_on(Db::new());
    first.block_on(db.run(insert(1))).unwrap();
    drop(first);
    let second = runtime();
    second.block_on(db.run(insert(2))).unwrap();
    assert_eq!(second.block_on(db.ids()), [1, 2]);
    second.block_on(db.backend.close(soon()));
}
