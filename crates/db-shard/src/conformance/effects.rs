use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use trine_core::{ErrorKind, Fence};

use super::{Fixture, add, count, create_items};
use crate::{
    Batch, Completion, Database, DbDeps, Error, ExecutorConfig, Inbox, Once, Outcome, Procedures,
    ResultSet, Ticket, TxOptions, Value, WhenFull,
};

const INSERT: &str = "INSERT INTO item (name) VALUES (?)";

type Log = Arc<Mutex<Vec<&'static str>>>;

fn note(log: &Log, word: &'static str) {
    log.lock().unwrap().push(word);
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
}

/// Before the commit in order and in the transaction; after it by its outcome.
pub async fn hooks_run_at_their_time(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let log = Log::default();
    let mut tx = db.begin().await.unwrap();
    let (first, second, last) = (log.clone(), log.clone(), log.clone());
    tx.before_commit(move |tx| {
        Box::pin(async move {
            note(&first, "first");
            tx.execute(INSERT, ("from the hook",)).await?;
            Ok(())
        })
    });
    tx.before_commit(move |_| {
        Box::pin(async move {
            note(&second, "second");
            Ok(())
        })
    });
    tx.after_completion(move |completion| {
        assert_eq!(completion, Completion::Committed);
        note(&last, "completed");
    });
    tx.after_rollback(|| panic!("it was committed"));
    tx.commit().await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["first", "second", "completed"]);
    assert_eq!(count(db).await, 1);

    let log = Log::default();
    for end in ["hook", "rollback", "drop"] {
        let mut tx = db.begin().await.unwrap();
        let undone = log.clone();
        tx.after_rollback(move || note(&undone, "undone"));
        tx.execute(INSERT, (end,)).await.unwrap();
        match end {
            "hook" => {
                tx.before_commit(|tx| {
                    let at = tx.database().at("hook");
                    Box::pin(async move { Err(Error::invalid(at, "refused by the hook")) })
                });
                tx.commit().await.unwrap_err();
            }
            "rollback" => tx.rollback().await.unwrap(),
            _ => drop(tx),
        }
    }
    assert_eq!(log.lock().unwrap().len(), 3);
    assert_eq!(count(db).await, 1);
}

/// A rolled-back transaction has no effects outside.
pub async fn handlers_run_after_the_commit_only(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let (ran, mut ended_well) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    for commits in [false, true] {
        let mut tx = db.begin().await.unwrap();
        tx.execute(INSERT, ("a",)).await.unwrap();
        let (beginning, ending, reader) = (Arc::clone(&ran), Arc::clone(&ended_well), db.clone());
        tx.after_commit(async move {
            // Counted before anything that can fail: who runs a handler keeps
            // its panics to itself.
            beginning.fetch_add(1, Ordering::Relaxed);
            assert_eq!(count(&reader).await, 1);
            ending.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>(())
        });
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
    }
    // Both handlers are gone, each of them run or thrown away.
    until(|| Arc::get_mut(&mut ended_well).is_some()).await;
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    assert_eq!(ended_well.load(Ordering::Relaxed), 1);
    let mut tx = db.begin().await.unwrap();
    let unknown = tx.after_commit_on("nobody", async { Ok::<_, Error>(()) });
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Errors and panics stay with their handler; the commit stands.
pub async fn a_failing_handler_harms_no_other(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let seen = Arc::new(AtomicU32::new(0));
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap();
    tx.after_commit(async { Err("failed on purpose") });
    tx.after_commit(async {
        if SystemTime::now() > SystemTime::UNIX_EPOCH {
            panic!("panics on purpose");
        }
        Ok::<_, Error>(())
    });
    let counting = Arc::clone(&seen);
    tx.after_commit(async move {
        counting.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(())
    });
    tx.commit().await.unwrap();
    until(|| seen.load(Ordering::Relaxed) == 1).await;
    assert_eq!(count(db).await, 1);
}

fn narrow(when_full: WhenFull) -> ExecutorConfig {
    ExecutorConfig { running: std::num::NonZeroU32::MIN, waiting: 0, when_full }
}

/// Occupies the executor `mail` until the sender is dropped.
async fn occupy(db: &Database) -> oneshot::Sender<()> {
    let (free, is_free) = oneshot::channel::<()>();
    let mut tx = db.begin().await.unwrap();
    tx.after_commit_on("mail", async move {
        let _freed = is_free.await;
        Ok::<_, Error>(())
    })
    .unwrap();
    tx.commit().await.unwrap();
    free
}

/// `reject`: the transaction fails visibly and nothing is committed.
pub async fn a_full_executor_refuses_before_the_commit(fixture: Fixture) {
    let config = narrow(WhenFull::Reject);
    let fixture = fixture.with(|db| {
        db.executors.insert("mail".to_owned(), config);
    });
    let service = fixture.start().await;
    let db = service.global();
    create_items(db).await;
    let free = occupy(db).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap();
    tx.after_commit_on("mail", async { Ok::<_, Error>(()) }).unwrap();
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert_eq!(count(db).await, 0);
    drop(free);
    let again = async {
        loop {
            let mut tx = db.begin().await.unwrap();
            tx.after_commit_on("mail", async { Ok::<_, Error>(()) }).unwrap();
            if tx.commit().await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

/// `caller_runs`: the commit stands and its caller waits for the handler.
pub async fn a_full_executor_lets_the_caller_run_it(fixture: Fixture) {
    let config = narrow(WhenFull::CallerRuns);
    let fixture = fixture.with(|db| {
        db.executors.insert("mail".to_owned(), config);
    });
    let service = fixture.start().await;
    let db = service.global();
    create_items(db).await;
    let free = occupy(db).await;
    let seen = Arc::new(AtomicU32::new(0));
    let mut tx = db.begin().await.unwrap();
    let counting = Arc::clone(&seen);
    tx.after_commit_on("mail", async move {
        counting.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(())
    })
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    drop(free);
}

// DB-15
/// Committed and rolled back are final answers.
pub async fn tickets_tell_what_became_of_a_transaction(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin_with(&TxOptions::default().with_ticket()).await.unwrap();
    let committed = tx.ticket().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let undone = tx.ticket().await.unwrap();
    assert_eq!(tx.ticket().await.unwrap(), undone);
    tx.execute(INSERT, ("b",)).await.unwrap();
    assert_eq!(db.outcome(undone).await.unwrap(), Outcome::Running);
    drop(tx);
    let answered = async {
        loop {
            match db.outcome(undone).await.unwrap() {
                Outcome::Running => tokio::time::sleep(Duration::from_millis(5)).await,
                outcome => break outcome,
            }
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(10), answered).await.unwrap();
    for _ in 0..2 {
        assert_eq!(db.outcome(committed).await.unwrap(), Outcome::Committed);
        assert_eq!(outcome, Outcome::RolledBack);
        assert_eq!(db.outcome(undone).await.unwrap(), Outcome::RolledBack);
    }
    let old: Ticket = "01800000-0000-7000-8000-000000000000".parse().unwrap();
    assert_eq!(db.outcome(old).await.unwrap(), Outcome::Expired);
}

// DB-15
/// A ticket that no database knows is answered `RolledBack`, and a transaction
/// that comes later with it cannot commit.
pub async fn a_ticket_asked_for_too_early_decides(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let ticket = Ticket::new();
    assert_eq!(db.outcome(ticket).await.unwrap(), Outcome::RolledBack);
    let late = Batch::new().with(INSERT, ("a",)).with(
        "INSERT INTO trine_ticket (id, state, made_at) VALUES (?, 1, ?)",
        (*ticket.as_uuid(), ticket.made_at()),
    );
    assert_eq!(db.execute_all(late).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(count(db).await, 0);
}

fn fence(token: u64) -> Fence {
    Fence::new("lock.default/order:42", token).unwrap()
}

// DB-20
/// Once a newer owner has shown its token, an older one writes nothing more.
pub async fn old_fences_are_refused(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let write = |token: u64, name: &'static str| {
        db.transaction(move |mut tx| async move {
            tx.guard(&fence(token)).await?;
            tx.execute(INSERT, (name,)).await
        })
    };
    write(33, "a").await.unwrap();
    write(33, "b").await.unwrap();
    db.raise(&fence(34)).await.unwrap();
    let error = write(33, "c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("stale fence 33") && error.to_string().contains("34"));
    assert_eq!(db.raise(&fence(33)).await.unwrap_err().kind(), ErrorKind::Fenced);
    db.raise(&fence(34)).await.unwrap();
    write(34, "d").await.unwrap();
    // Other keys are not concerned.
    let other = Fence::new("lock.default/order:43", 1).unwrap();
    db.raise(&other).await.unwrap();
    assert_eq!(count(db).await, 3);
}

// DB-20
/// Between the guard of an owner and its commit no newer owner gets in.
pub async fn a_newer_fence_waits_for_the_guarded_write(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin().await.unwrap();
    tx.guard(&fence(33)).await.unwrap();
    let newer = db.clone();
    let mut raising = JoinSet::new();
    raising.spawn(async move { newer.raise(&fence(34)).await });
    let early = tokio::time::timeout(Duration::from_millis(200), raising.join_next()).await;
    assert!(early.is_err(), "the newer fence did not wait: {early:?}");
    tx.execute(INSERT, ("a",)).await.unwrap();
    tx.commit().await.unwrap();
    raising.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(count(db).await, 1);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.guard(&fence(33)).await.unwrap_err().kind(), ErrorKind::Fenced);
}

// DB-20
/// What one database was shown, no other one knows.
pub async fn a_fence_is_known_where_it_was_shown(fixture: Fixture) {
    let service = fixture.start().await;
    service.global().raise(&fence(2)).await.unwrap();
    let shards = [service.shard(0).unwrap(), service.shard(1).unwrap()];
    shards[0].raise(&fence(1)).await.unwrap();
    shards[1].raise(&fence(1)).await.unwrap();
    let error = service.global().raise(&fence(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
}

// DB-20
/// Whatever the body makes of the error.
pub async fn a_refused_fence_cannot_be_committed(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    db.raise(&fence(2)).await.unwrap();
    let error = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, ("a",)).await?;
            let _ignored = tx.guard(&fence(1)).await;
            Ok::<_, Error>(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(count(db).await, 0);
}

/// Once per consumer and id, together with the effect.
pub async fn an_inbox_lets_a_message_in_once(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let credit = |inbox: Inbox, id: &'static str, keep: bool| {
        db.transaction(move |mut tx| {
            let inbox = inbox.clone();
            async move {
                let once = inbox.once(&mut tx, id).await?;
                if once == Once::First {
                    tx.execute(INSERT, (format!("{} {id}", inbox.consumer()),)).await?;
                }
                if keep { Ok(once) } else { Err(Error::invalid(tx.database().at("test"), "undo")) }
            }
        })
    };
    let (one, two) = (Inbox::new("one"), Inbox::new("two"));
    credit(one.clone(), "m1", false).await.unwrap_err();
    assert_eq!(credit(one.clone(), "m1", true).await.unwrap(), Once::First);
    assert_eq!(credit(one.clone(), "m1", true).await.unwrap(), Once::Repeated);
    assert_eq!(credit(two, "m1", true).await.unwrap(), Once::First);
    assert_eq!(credit(one.clone(), "M1", true).await.unwrap(), Once::First);
    assert_eq!(count(db).await, 3);
    for id in ["", "x".repeat(256).leak()] {
        let error = credit(one.clone(), id, true).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// Sixteen deliveries of one message at once have one effect.
pub async fn an_inbox_makes_the_second_one_wait(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let inbox = Inbox::new("consumer");
    let inbox = &inbox;
    let deliver = || {
        db.transaction(|mut tx| async move {
            let once = inbox.once(&mut tx, "m1").await?;
            if once == Once::First {
                tx.execute(INSERT, ("effect",)).await?;
            }
            Ok::<_, Error>(once)
        })
    };
    let answers = futures_util::future::join_all((0..16).map(|_| deliver())).await;
    let firsts = answers.iter().filter(|once| matches!(once, Ok(Once::First))).count();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!((firsts, count(db).await), (1, 1));
}

/// Expired ids go, younger ones and tickets that can be asked for stay.
pub async fn what_outlived_its_retention_is_swept(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    let short = Inbox::new("short").with_retention(Duration::ZERO);
    let long = Inbox::new("long");
    for (inbox, id) in [(&short, "a"), (&short, "b"), (&long, "c")] {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(inbox.once(&mut tx, id).await.unwrap(), Once::First);
        tx.ticket().await.unwrap();
        tx.commit().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(db.sweep().await.unwrap(), 2);
    assert_eq!(db.sweep().await.unwrap(), 0);
    let left: Vec<String> = db.query("SELECT message_id FROM trine_inbox", ()).await.unwrap();
    assert_eq!(left, ["c"]);
}

/// A twin stands in where the engine has no procedures, under the same name.
pub async fn procedures_have_twins(fixture: Fixture) {
    let procedures = Procedures::new()
        .with_statements(
            "rename_item",
            ["UPDATE item SET name = ? WHERE id = ?", "SELECT name FROM item WHERE name = ?"],
        )
        .with_function("two_counts", |tx, values| {
            Box::pin(async move {
                let first: Value = values.first().cloned().unwrap_or(Value::Null);
                tx.execute(INSERT, vec![first]).await?;
                let rows = tx.query("SELECT COUNT(*) AS n FROM item", ()).await?;
                Ok(vec![ResultSet::new(rows.clone(), 0), ResultSet::new(rows, 0)])
            })
        });
    let service = fixture.start_with(DbDeps::default().with_procedures(procedures)).await;
    let db = service.global();
    create_items(db).await;
    let id = add(db, "a").await;
    if db.capabilities().procedures {
        let unknown = db.call_procedure("nowhere_to_be_found", ()).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Invalid, "{unknown}");
        return;
    }
    let sets = db.call_procedure("rename_item", ("b", id)).await.unwrap();
    assert_eq!((sets.len(), sets[0].affected), (2, 1));
    assert_eq!(sets[1].decode::<String>().unwrap(), ["b"]);
    let sets = db.call_procedure("two_counts", ("c",)).await.unwrap();
    assert_eq!(sets[1].decode::<u64>().unwrap(), [2]);
    db.call_procedure("two_counts", ("c",)).await.unwrap_err();
    assert_eq!(count(db).await, 2);
    let unknown = db.call_procedure("nobody", ()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unsupported);
}
