use std::env;
use std::fs;

use futures_util::future::join_all;
use trine_core::ErrorKind;
use trine_testkit::{Child, Ledger, SoakPlan};

use super::*;

const CHILD: &str = "sqlite_engine::crash::child_that_writes_until_it_is_killed";

/// Starts this very binary as a process that writes into `folder`.
fn spawn(folder: &Path) -> Child {
    Child::builder(env::current_exe().unwrap())
        .args([CHILD, "--exact", "--ignored", "--nocapture"])
        .folder(folder)
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "the child of the other tests: writes in its folder until it is killed"]
async fn child_that_writes_until_it_is_killed() {
    let folder = env::current_dir().unwrap();
    if !folder.join("victim").exists() {
        return;
    }
    let round = fs::read_to_string(folder.join("victim")).unwrap();
    let ledger = Ledger::open(&folder.join("ledger")).unwrap();
    let backend = open(&config(&folder));
    backend.prove(call()).await.unwrap();
    println!("ready");
    join_all((0..16_i64).map(|writer| {
        let (backend, ledger, round) = (&backend, &ledger, &round);
        async move {
            for step in 0.. {
                let name = format!("{round}-{writer}-{step}");
                ledger.attempt(&name).unwrap();
                let text = "INSERT INTO item (name) VALUES (?)";
                let done = backend.run(call(), write(text, vec![name.as_str().into()])).await;
                done.unwrap();
                ledger.acknowledge(&name).unwrap();
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    kill_the_writer().await;
}

#[tokio::test]
#[ignore = "long form: cargo xtask soak sqlite_kill"]
async fn soak_sqlite_kill() {
    kill_the_writer().await;
}

#[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
async fn kill_the_writer() {
    let mut db = Db::new().await;
    let mut plan = SoakPlan::new("sqlite_kill", 20).unwrap();
    let ledger = db.path().join("ledger");
    while let Some(round) = plan.next_round() {
        db.backend.close(trine_core::Deadline::after(BOUND)).await;
        fs::write(db.path().join("victim"), round.to_string()).unwrap();
        let child = spawn(db.path());
        child.wait_for_log("ready", BOUND).await.unwrap();
        sleep(Duration::from_micros(plan.rng().below(60_000))).await;
        child.kill().await.unwrap();

        db.backend = open(&config(db.path()));
        let reply = db.backend.run(within_rows(), read("SELECT name FROM item")).await.unwrap();
        let found = reply.rows.iter().map(|row| row.decode::<String>().unwrap());
        let audit = Ledger::read(&ledger).unwrap().check(found);
        assert!(audit.is_clean(), "round {round}, seed {}: {audit:?}", plan.seed());
    }
    let acknowledged = Ledger::read(&ledger).unwrap().acknowledged();
    println!("{} kills: {acknowledged} acknowledged, none lost", plan.rounds());
    assert!(acknowledged > 0);
}

fn within_rows() -> Call {
    Call::new("test", BOUND, u64::MAX)
}

#[tokio::test]
async fn another_process_is_named_until_it_is_gone() {
    let db = Db::new().await;
    db.backend.close(trine_core::Deadline::after(BOUND)).await;
    fs::write(db.path().join("victim"), "x").unwrap();
    let child = spawn(db.path());
    child.wait_for_log("ready", BOUND).await.unwrap();

    let backend = open(&config(db.path()));
    let error = backend.prove(call()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("held by process {}", child.pid())), "{error}");
    child.kill().await.unwrap();
    backend.prove(call()).await.unwrap();
}

#[tokio::test]
#[ignore = "the child of another test: its files may not grow beyond 1 MiB"]
async fn child_whose_disk_fails() {
    let folder = env::current_dir().unwrap();
    if !folder.join("small").exists() {
        return;
    }
    let db = Db::new().await;
    let large = write(
        "INSERT INTO item (id, name) VALUES (2, ?)",
        vec!["x".repeat(1_500_000).as_str().into()],
    );
    let answers = db.grouped(vec![insert(1), large, insert(3)]).await;
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    }
    db.run(insert(4)).await.unwrap();
    assert!(db.ids().await.contains(&4));
    println!("passed");
}

/// To run them again could do them twice: the frames that were written before
/// the failure may come to light.
#[cfg(unix)]
#[tokio::test]
async fn nothing_of_a_group_is_done_again_when_its_commit_meets_a_failing_disk() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("small"), "").unwrap();
    let name = "sqlite_engine::crash::child_whose_disk_fails";
    let program = env::current_exe().unwrap();
    // Blocks of 512 or 1,024 bytes; a write beyond the limit fails instead of killing.
    let limited = format!("trap '' XFSZ; ulimit -f 1024; exec '{}' \"$@\"", program.display());
    let child = Child::builder("/bin/sh")
        .args(["-c", &limited, "sh", name, "--exact", "--ignored", "--nocapture"])
        .folder(folder.path())
        .spawn()
        .unwrap();
    let status = child.wait(BOUND * 3).await.unwrap();
    assert!(status.success() && child.log().contains("passed"), "{}", child.log());
}
