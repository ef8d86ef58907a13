use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trine_testkit::{Child, Error, Result};

use crate::{absent, gone, printed, victim};

const BOUND: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Child {
    Child::builder("/bin/sh").args(["-c", script]).spawn().unwrap()
}

#[trine_testkit::test]
async fn a_child_is_killed_and_cannot_be_signalled_afterwards() -> Result<()> {
    let child = shell("echo up; sleep 60");
    child.wait_for_log("up", BOUND).await?;
    assert!(child.is_running());
    child.kill().await?;
    assert!(!child.is_running() && gone(child.pid()).await);
    assert!(matches!(child.resume(), Err(Error::NotRunning { .. })));
    assert!(matches!(child.pause().await, Err(Error::NotRunning { .. })));
    child.kill().await?;
    Ok(())
}

#[trine_testkit::test]
async fn a_paused_child_stands_until_it_is_resumed() -> Result<()> {
    let child = shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done");
    child.wait_for_log("line 3", BOUND).await?;
    child.pause().await?;
    let before = child.log();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(child.log(), before);
    assert!(child.is_running());
    child.resume()?;
    let next = format!("line {}", before.lines().count() + 1);
    child.wait_for_log(&next, BOUND).await?;
    Ok(())
}

#[trine_testkit::test]
async fn a_child_ends_by_itself_or_when_told() -> Result<()> {
    let child = shell("exit 7");
    assert_eq!(child.wait(BOUND).await?.code(), Some(7));
    let child = shell("trap 'echo told; exit 3' TERM; echo up; while :; do sleep 0.01; done");
    child.wait_for_log("up", BOUND).await?;
    child.terminate()?;
    assert_eq!(child.wait(BOUND).await?.code(), Some(3));
    assert!(child.log().contains("told"));
    Ok(())
}

#[trine_testkit::test]
async fn a_child_is_interrupted_as_by_a_terminal() -> Result<()> {
    let script = "trap 'exit 4' INT; echo up; while :; do sleep 0.01; done";
    // A shell cannot trap what was ignored when it began, as it is in the
    // background.
    let child = Child::builder("/usr/bin/env")
        .args(["--default-signal=INT", "/bin/sh", "-c", script])
        .spawn()?;
    child.wait_for_log("up", BOUND).await?;
    child.interrupt()?;
    assert_eq!(child.wait(BOUND).await?.code(), Some(4));
    assert!(matches!(child.interrupt(), Err(Error::NotRunning { .. })));
    Ok(())
}

#[trine_testkit::test]
async fn a_child_has_a_clock_of_its_own() -> Result<()> {
    for ahead in [600, -600] {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let child = Child::builder("date").args(["+%s"]).clock(ahead).spawn()?;
        assert!(child.wait(BOUND).await?.success(), "{}", child.log());
        let shown: i64 = child.log().trim().parse().unwrap_or_default();
        let off = shown - i64::try_from(began.as_secs()).unwrap_or_default();
        assert!((ahead..ahead + 60).contains(&off), "{off} for {ahead}");
    }
    Ok(())
}

#[trine_testkit::test]
async fn waiting_for_a_child_is_bounded() {
    let child = shell("sleep 60");
    let error = child.wait(Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    let child = shell("echo last words; exit 1");
    let error = child.wait_for_log("never", BOUND).await.unwrap_err();
    assert!(matches!(&error, Error::Start { log, .. } if log == "last words\n"), "{error}");
}

#[trine_testkit::test]
async fn a_program_that_is_not_there_says_so_in_its_log() -> Result<()> {
    let child = Child::builder("/nonexistent/program").spawn()?;
    assert!(!child.wait(BOUND).await?.success());
    assert!(child.log().contains("/nonexistent/program"), "{}", child.log());
    Ok(())
}

#[trine_testkit::test]
async fn dropping_a_child_kills_it_and_removes_its_log() {
    let child = shell("sleep 60");
    let (pid, log) = (child.pid(), child.log_path().to_owned());
    assert!(log.exists());
    drop(child);
    assert!(gone(pid).await && absent(&log).await);
}

#[trine_testkit::test]
async fn what_a_child_started_ends_with_it() -> Result<()> {
    let family = async || -> Result<(Child, u32)> {
        let child = shell("sleep 600 & echo started $!; wait");
        let line = child.wait_for_log("started ", BOUND).await?;
        let started = line.strip_prefix("started ").unwrap().parse().unwrap();
        Ok((child, started))
    };
    let (child, started) = family().await?;
    child.kill().await?;
    assert!(gone(started).await, "it outlived a kill");
    let (child, started) = family().await?;
    drop(child);
    assert!(gone(started).await, "it outlived a drop");
    Ok(())
}

#[trine_testkit::test]
async fn the_children_of_a_killed_process_die_with_it() -> Result<()> {
    let victim = victim("process::victim_with_a_child").spawn()?;
    let pid = printed(&victim, "child pid ").await?.parse().unwrap();
    let log = printed(&victim, "child log ").await?;
    victim.kill().await?;
    assert!(gone(pid).await, "the child outlived its parent");
    assert!(absent(log.as_ref()).await, "the folder outlived its process");
    Ok(())
}

#[trine_testkit::test]
#[ignore = "run as a process of its own by another test"]
async fn victim_with_a_child() {
    // Started from a thread that ends at once: the child must not end with it.
    let child = std::thread::spawn(|| shell("sleep 60")).join().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(child.is_running());
    println!("\nchild pid {}\nchild log {}", child.pid(), child.log_path().display());
    std::future::pending::<()>().await;
}
