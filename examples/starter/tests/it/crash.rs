//! Kill -9 of the starter and of its database, at any moment, under load.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trine_testkit::{LedgerAudit, SoakPlan};

use crate::home::{BOUND, Home, Starter};
use crate::load::Book;

const WRITERS: usize = 6;

/// Five times the 10 s that the figure allows.
const READY: Duration = Duration::from_secs(50);

/// Writes for a random time, and then has `fault` happen meanwhile.
async fn write_until<F: Future<Output = ()>>(
    book: &Arc<Book>,
    starter: &Starter,
    plan: &mut SoakPlan,
    fault: F,
) {
    let stop = CancellationToken::new();
    let span = Duration::from_millis(20 + plan.rng().below(480));
    let fault = async {
        sleep(span).await;
        fault.await;
        stop.cancel();
    };
    tokio::join!(book.write(starter.url(), &stop), fault);
}

fn assert_clean(round: u64, audit: Result<LedgerAudit, String>) {
    let audit = audit.unwrap_or_else(|error| panic!("round {round}: {error}"));
    assert!(audit.is_clean(), "round {round}: {audit}");
}

/// Kills the starter again and again; each time all that it acknowledged must
/// be there when it is back.
async fn kill_the_starter(home: Home, mut plan: SoakPlan) {
    let book = Book::new();
    let mut starter = home.serve().await;
    book.add_writers(&starter.client(), "writer", WRITERS).await;
    let mut slowest = Duration::ZERO;
    while let Some(round) = plan.next_round() {
        write_until(&book, &starter, &mut plan, async {
            starter.process.kill().await.unwrap();
        })
        .await;
        let start = Instant::now();
        starter = home.listen("127.0.0.1:0").await;
        starter.client().until_ready(READY).await;
        slowest = slowest.max(start.elapsed());
        if !home.keeps_sessions() {
            book.log_in_again(&starter.client()).await;
        }
        assert_clean(round, book.audit(&starter.client()).await);
    }
    assert!(book.documents() > 0, "no document was acknowledged");
    println!("{} acknowledged, none lost; ready again in at most {slowest:?}", book.acknowledged());
}

/// Kills the database again and again; the starter must find it again by
/// itself, with all that was acknowledged.
async fn kill_the_database(mut plan: SoakPlan) {
    let (home, server) = Home::with_own_server().await;
    let book = Book::new();
    let starter = home.serve().await;
    book.add_writers(&starter.client(), "writer", WRITERS).await;
    let mut slowest = Duration::ZERO;
    while let Some(round) = plan.next_round() {
        let down = Duration::from_millis(plan.rng().below(1_500));
        let mut back_at = Instant::now();
        write_until(&book, &starter, &mut plan, async {
            server.kill().await.unwrap();
            sleep(down).await;
            server.restart().await.unwrap();
            back_at = Instant::now();
            // Some of the writers find the way back while others still fail.
            sleep(Duration::from_millis(200)).await;
        })
        .await;
        until_writable(&book, &starter).await;
        slowest = slowest.max(back_at.elapsed());
        assert!(starter.process.is_running(), "{}", starter.process.log());
        assert_clean(round, book.audit(&starter.client()).await);
    }
    assert!(book.documents() > 0, "no document was acknowledged");
    println!(
        "{} acknowledged, none lost; writable again in at most {slowest:?}",
        book.acknowledged()
    );
}

/// Waits until the starter is ready and every writer writes again.
async fn until_writable(book: &Arc<Book>, starter: &Starter) {
    let start = Instant::now();
    loop {
        starter.client().until_ready(READY).await;
        let stop = CancellationToken::new();
        let pause = async {
            sleep(Duration::from_millis(50)).await;
            stop.cancel();
        };
        let (tally, ()) = tokio::join!(book.write(starter.url(), &stop), pause);
        if tally.failed == 0 && tally.succeeded > 0 {
            return;
        }
        assert!(start.elapsed() < READY, "{tally:?}: {}", starter.process.log());
    }
}

mod sqlite {
    use super::*;

    #[trine_testkit::test(timeout = "300s")]
    async fn nothing_acknowledged_is_lost_when_the_starter_is_killed() {
        kill_the_starter(Home::sqlite(), SoakPlan::new("starter_kill", 10).unwrap()).await;
    }

    #[trine_testkit::test(timeout = "600m")]
    #[ignore = "long form: cargo xtask soak starter_kill"]
    async fn soak_starter_kill() {
        kill_the_starter(Home::sqlite(), SoakPlan::new("starter_kill", 10).unwrap()).await;
    }

    /// The negative control of the ledger: without the logs that hold what was
    /// written last, as if nothing had been synced.
    #[trine_testkit::test(timeout = "120s")]
    async fn a_loss_is_noticed() {
        let home = Home::sqlite();
        let book = Book::new();
        let starter = home.serve().await;
        book.add_writers(&starter.client(), "writer", WRITERS).await;
        let mut plan = SoakPlan::new("starter_loss", 1).unwrap();
        write_until(&book, &starter, &mut plan, async {
            starter.process.kill().await.unwrap();
        })
        .await;
        for file in fs::read_dir(home.data()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("shard") && name.ends_with("-wal") {
                fs::write(&path, "").unwrap();
            }
        }
        let starter = home.listen("127.0.0.1:0").await;
        starter.client().until_ready(BOUND).await;
        book.log_in_again(&starter.client()).await;
        let audit = book.audit(&starter.client()).await;
        assert!(!audit.is_ok_and(|audit| audit.is_clean()), "a loss was not noticed");
    }
}

mod mariadb {
    use super::*;
    use crate::home::Engine;

    #[trine_testkit::test(timeout = "300s")]
    async fn nothing_acknowledged_is_lost_when_the_starter_is_killed() {
        let home = Home::new(Engine::MariaDb).await;
        kill_the_starter(home, SoakPlan::new("starter_kill", 5).unwrap()).await;
    }

    #[trine_testkit::test(timeout = "300s")]
    async fn nothing_acknowledged_is_lost_when_the_database_is_killed() {
        kill_the_database(SoakPlan::new("starter_database_kill", 5).unwrap()).await;
    }

    #[trine_testkit::test(timeout = "600m")]
    #[ignore = "long form: cargo xtask soak starter_kill"]
    async fn soak_starter_kill() {
        let home = Home::new(Engine::MariaDb).await;
        kill_the_starter(home, SoakPlan::new("starter_kill", 5).unwrap()).await;
    }

    #[trine_testkit::test(timeout = "600m")]
    #[ignore = "long form: cargo xtask soak starter_database_kill"]
    async fn soak_starter_database_kill() {
        kill_the_database(SoakPlan::new("starter_database_kill", 5).unwrap()).await;
    }
}
