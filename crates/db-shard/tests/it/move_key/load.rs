//! Keys move while many write to them.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use trine_testkit::{Child, Ledger, LedgerAudit, MariaDb, Rng, SoakPlan, TestDatabase};

use super::*;
use crate::routing::mysql_config;

on_both_engines!(keys_move_under_load(3), a_naive_move_loses_rows(3));

const KEYS: [&str; 6] = ["ada", "bob", "cyd", "dan", "eve", "fay"];

/// What the writers did.
#[derive(Default)]
struct Tally {
    written: AtomicU64,
    moving: AtomicU64,
    moves: AtomicU64,
    aborts: AtomicU64,
    /// Rows that were acknowledged and not found by their writer at once.
    unread: Mutex<Vec<String>>,
}

impl Tally {
    /// Every writer found its own rows, and writes met moves.
    #[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
    fn check(&self) {
        println!("{self}");
        let unread = self.unread.lock().unwrap();
        assert!(unread.is_empty(), "acknowledged and not found: {unread:?}");
        assert!(self.written.load(Ordering::Relaxed) > 100, "{self}");
        assert!(self.moving.load(Ordering::Relaxed) > 0, "no write met a move");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "written {}, refused while moving {}, moves {}, aborts {}",
            of(&self.written),
            of(&self.moving),
            of(&self.moves),
            of(&self.aborts)
        )
    }
}

/// Writes by plain statements and by transactions, and reads what it wrote.
async fn write_on(
    db: DbService,
    writer: u32,
    ledger: Arc<Ledger>,
    tally: Arc<Tally>,
    is_over: Arc<AtomicBool>,
) {
    let mut handles = Vec::new();
    for key in KEYS {
        handles.push(db.for_key(key).await.unwrap());
    }
    for number in 0_u64.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let index = usize::try_from((number + u64::from(writer)) % 6).unwrap();
        let (owner, id) = (KEYS[index], format!("{} {writer} {number}", KEYS[index]));
        // Old handles and new ones.
        let handle = match number % 2 {
            0 => handles[index].clone(),
            _ => db.for_key(owner).await.unwrap(),
        };
        ledger.attempt(&id).unwrap();
        let result = match number % 3 {
            0 => insert_in_transaction(&handle, &id, owner).await,
            1 => insert(&handle, &id, owner).await,
            _ => insert_by_hand(&handle, &id, owner).await,
        };
        match result {
            Ok(()) => {
                ledger.acknowledge(&id).unwrap();
                tally.written.fetch_add(1, Ordering::Relaxed);
                let read =
                    handle.query::<String>("SELECT id FROM entry WHERE id = ?", (&id,)).await;
                match read {
                    Ok(found) if found == [id.as_str()] => {}
                    Ok(_) => tally.unread.lock().unwrap().push(id),
                    Err(error) => assert!(error.is_retryable(), "{}", Report(&error)),
                }
            }
            Err(error) if is_moving(&error) => {
                ledger.refuse(&id).unwrap();
                tally.moving.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // A plain statement that met the end of its lease: nobody knows.
            Err(error) => {
                let kinds = [ErrorKind::Timeout, ErrorKind::OutcomeUnknown, ErrorKind::Unavailable];
                assert!(kinds.contains(&error.kind()), "{}", Report(&error));
            }
        }
    }
}

async fn insert_by_hand(handle: &KeyShard, id: &str, owner: &str) -> Result<()> {
    let mut tx = handle.begin().await?;
    tx.execute(INSERT, (id, owner)).await?;
    tx.commit().await
}

/// Moves keys about, and gives up some of the moves.
async fn move_about(db: &DbService, shards: u32, rng: &mut Rng, tally: &Tally) {
    let owner = *rng.pick(&KEYS).unwrap();
    let home = db.shard_of(owner).await.unwrap().unwrap().get();
    let to = (home + 1 + u32::try_from(rng.below(u64::from(shards) - 1)).unwrap()) % shards;
    if rng.one_in(4) {
        // The mover dies somewhere on its way.
        let span = Duration::from_millis(rng.below(900));
        let _died = tokio::time::timeout(span, relocate(db, owner, to)).await;
        if rng.one_in(2) {
            db.abort_move(owner).await.unwrap();
            tally.aborts.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    // Whatever was reached, the same call finishes it.
    relocate(db, owner, to).await.unwrap();
    tally.moves.fetch_add(1, Ordering::Relaxed);
}

/// What is there after a load.
struct Aftermath {
    audit: LedgerAudit,
    /// Rows on a shard that is not their key's.
    misplaced: Vec<(u32, String)>,
}

impl Aftermath {
    fn is_clean(&self) -> bool {
        self.audit.is_clean() && self.misplaced.is_empty()
    }

    /// Nothing is lost or misplaced.
    fn check(&self) {
        assert!(self.audit.is_clean(), "{}", self.audit);
        assert!(self.misplaced.is_empty(), "misplaced: {:?}", self.misplaced);
    }
}

/// Runs writers on all services while `moves` goes on, and looks where every
/// row is then.
async fn load(
    services: &[DbService],
    tally: &Arc<Tally>,
    mut moves: impl AsyncFnMut() -> bool,
) -> Aftermath {
    let (db, ledger) = (&services[0], Arc::new(Ledger::in_memory()));
    for (number, key) in (0..).zip(KEYS) {
        db.assign_to(key, number % 3).await.unwrap();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..8_u32 {
        let db = services[usize::try_from(writer).unwrap() % services.len()].clone();
        let (ledger, tally) = (Arc::clone(&ledger), Arc::clone(tally));
        writers.spawn(write_on(db, writer, ledger, tally, Arc::clone(&is_over)));
    }
    while moves().await {}
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }

    let (mut found, mut misplaced) = (Vec::new(), Vec::new());
    for key in KEYS {
        // Clears what an aborted move has left on a target.
        let home = db.shard_of(key).await.unwrap().unwrap().get();
        relocate(db, key, home).await.unwrap();
        let (at_home, elsewhere): (Vec<_>, Vec<_>) =
            rows(db, key).await.into_iter().partition(|(shard, _)| *shard == home);
        found.extend(at_home.into_iter().map(|(_, id)| id));
        misplaced.extend(elsewhere);
    }
    Aftermath { audit: ledger.check(&found), misplaced }
}

/// Two processes where the engine allows it, so that one of them knows nothing
/// of the other's moves.
async fn services(fixture: &Fixture) -> Vec<DbService> {
    let first = start(fixture).await;
    match first.global().engine() {
        trine_db_shard::Engine::Sqlite => vec![first],
        _ => vec![first, fixture.start().await],
    }
}

/// A load begins anew after so many rounds: copies take longer with each row.
const ROUNDS: u64 = 20;

/// Moves keys about under load, in this process, from a round that is due.
async fn move_under_load(fixture: Fixture, plan: &mut SoakPlan, tally: &Arc<Tally>) {
    let fixture = leased(fixture, 600);
    let services = services(&fixture).await;
    let mut rounds = 0;
    let aftermath = load(&services, tally, async || {
        let is_due = rounds == 0 || rounds < ROUNDS && plan.next_round().is_some();
        rounds += 1;
        if is_due {
            move_about(&services[0], 3, plan.rng(), tally).await;
        }
        is_due
    });
    aftermath.await.check();
}

// DB-23
async fn keys_move_under_load(fixture: Fixture) {
    let (mut plan, tally) = (SoakPlan::new("move", 8).unwrap(), Arc::new(Tally::default()));
    plan.next_round().unwrap();
    move_under_load(fixture, &mut plan, &tally).await;
    tally.check();
}

// DB-23
#[trine_testkit::test(timeout = "3000m", threads = 4)]
#[ignore = "long form: cargo xtask soak move --minutes 60"]
async fn soak_move() {
    let (mut plan, tally) = (SoakPlan::new("move", 40).unwrap(), Arc::new(Tally::default()));
    while plan.next_round().is_some() {
        move_under_load(mariadb(3).await, &mut plan, &tally).await;
    }
    tally.check();
}

/// Copies the rows, points the map at the copy and removes them, and asks
/// nobody to wait.
async fn move_naively(db: &DbService, owner: &str, to: u32) {
    let home = db.shard_of(owner).await.unwrap().unwrap();
    let (source, target) = (db.shard(home).unwrap(), db.shard(to).unwrap());
    let ids: Vec<String> = source.query(OF, (owner,)).await.unwrap();
    let ids = &ids;
    target
        .transaction(|mut tx| async move {
            for id in ids {
                tx.execute(INSERT, (id.as_str(), owner)).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    let key = ShardKey::try_from(owner).unwrap();
    let switch = "UPDATE trine_shard_key SET shard_id = ?, epoch = epoch + 1 WHERE shard_key = ?";
    db.global().execute(switch, (to, key.as_bytes())).await.unwrap();
    source.execute("DELETE FROM entry WHERE owner = ?", (owner,)).await.unwrap();
}

/// The negative control of the writers and the audit.
#[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
async fn a_naive_move_loses_rows(fixture: Fixture) {
    let fixture = leased(fixture, 600);
    let services = services(&fixture).await;
    let (mut keys, tally) = (KEYS.iter(), Arc::new(Tally::default()));
    let aftermath = load(&services, &tally, async || {
        let Some(owner) = keys.next() else { return false };
        let before = tally.written.load(Ordering::Relaxed);
        while tally.written.load(Ordering::Relaxed) < before + 50 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let home = services[0].shard_of(*owner).await.unwrap().unwrap().get();
        move_naively(&services[0], owner, (home + 1) % 3).await;
        true
    });
    let aftermath = aftermath.await;
    println!("{tally}; {}, {} misplaced", aftermath.audit, aftermath.misplaced.len());
    assert!(!aftermath.is_clean(), "no write met a move");
}

const URLS: &str = "TRINE_IT_MOVE_URLS";
const SEED: &str = "TRINE_IT_MOVE_SEED";

fn config(urls: &[String]) -> trine_db_shard::DbConfig {
    let mut config = mysql_config(urls.to_vec());
    config.map.refresh = Span::millis(150);
    config.map.lease = Span::millis(600);
    config
}

#[expect(clippy::disallowed_methods, reason = "the parent tells the child what to do by variables")]
#[trine_testkit::test(timeout = "3000m", threads = 4)]
#[ignore = "a part of a_killed_mover_is_followed_by_another"]
async fn child_that_moves_until_it_is_killed() {
    let (Ok(urls), Ok(seed)) = (std::env::var(URLS), std::env::var(SEED)) else { return };
    let urls: Vec<String> = urls.split(' ').map(str::to_owned).collect();
    let db = DbService::connect(&config(&urls)).await.unwrap();
    let mut rng = Rng::seeded(seed.parse().unwrap());
    println!("ready");
    loop {
        let owner = *rng.pick(&KEYS).unwrap();
        let home = db.shard_of(owner).await.unwrap().unwrap().get();
        let to = (home + 1 + u32::try_from(rng.below(2)).unwrap()) % 3;
        relocate(&db, owner, to).await.unwrap();
    }
}

/// Kills a process that moves keys, again and again; another one goes on with
/// what it left or gives it up.
#[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
async fn kill_movers() {
    let mut plan = SoakPlan::new("move_kill", 5).unwrap();
    let (tally, mut left) = (Arc::new(Tally::default()), 0);
    while plan.next_round().is_some() {
        let server = MariaDb::shared().await.unwrap();
        let mut databases: Vec<TestDatabase> = Vec::new();
        for _ in 0..=3 {
            databases.push(server.database().await.unwrap());
        }
        let urls: Vec<String> = databases.iter().map(TestDatabase::url).collect();
        let fixture = Fixture::new(config(&urls), databases);
        let services = services(&fixture).await;
        let mut rounds = 0;
        let aftermath = load(&services, &tally, async || {
            let is_due = rounds == 0 || rounds < ROUNDS && plan.next_round().is_some();
            rounds += 1;
            if is_due {
                kill_a_mover(&urls, plan.rng(), &services[0]).await;
                left += follow_movers(&services[0], plan.rng(), &tally).await;
            }
            is_due
        });
        aftermath.await.check();
    }
    println!("{} movers killed, {left} keys left on their way", plan.rounds());
    tally.check();
    assert!(left > 0, "no mover was killed in a move");
}

/// Kills it anywhere, or within a move.
async fn kill_a_mover(urls: &[String], rng: &mut Rng, db: &DbService) {
    const MOVING: &str = "SELECT COUNT(*) FROM trine_shard_key WHERE moving_to IS NOT NULL";
    let child = Child::builder(std::env::current_exe().unwrap())
        .args(["--exact", "move_key::load::child_that_moves_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(URLS, urls.join(" "))
        .env(SEED, rng.next_u64().to_string())
        .spawn()
        .unwrap();
    child.wait_for_log("ready", Duration::from_secs(60)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(rng.below(2_500))).await;
    if !rng.one_in(3) {
        while db.global().query_one::<u64>(MOVING, ()).await.unwrap() == 0 {
            assert!(child.is_running(), "{}", child.log());
        }
    }
    assert!(child.is_running(), "{}", child.log());
    child.kill().await.unwrap();
}

/// Finishes the moves that are under way or gives them up; returns how many
/// there were.
async fn follow_movers(db: &DbService, rng: &mut Rng, tally: &Tally) -> u64 {
    const MOVING: &str =
        "SELECT moving_to FROM trine_shard_key WHERE shard_key = ? AND moving_to IS NOT NULL";
    let mut left = 0;
    for owner in KEYS {
        let key = ShardKey::try_from(owner).unwrap();
        let to = db.global().query_optional::<u32>(MOVING, (key.as_bytes(),)).await.unwrap();
        let Some(to) = to else { continue };
        left += 1;
        if rng.one_in(4) {
            db.abort_move(owner).await.unwrap();
            tally.aborts.fetch_add(1, Ordering::Relaxed);
        } else {
            relocate(db, owner, to).await.unwrap();
            tally.moves.fetch_add(1, Ordering::Relaxed);
        }
    }
    left
}

// DB-23
#[trine_testkit::test(timeout = "300s", threads = 4)]
async fn a_killed_mover_is_followed_by_another() {
    kill_movers().await;
}

// DB-23
#[trine_testkit::test(timeout = "3000m", threads = 4)]
#[ignore = "long form: cargo xtask soak move_kill --minutes 60"]
async fn soak_move_kill() {
    kill_movers().await;
}
