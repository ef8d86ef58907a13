//! Plain grants, which are a text that no script has parsed, and what becomes of
//! them.

use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trine_core::{LeaseEnd, Span};
use trine_lock::{HolderState, LockOptions, RedisStoreConfig, ReleaseOutcome};
use trine_testkit::{Redis, RedisPersistence};

use crate::support::redis::{Opened, PATIENCE, in_time, records, single, take, until};

fn long() -> LockOptions {
    LockOptions::default().with_ttl(Duration::from_secs(600)).with_wait(PATIENCE)
}

#[derive(Debug, PartialEq)]
enum Form {
    Plain,
    Record,
    Absent,
}

/// Returns how the server keeps a key.
async fn form(server: &Redis, key: &str) -> Form {
    const FIRST: &str = "for _, hash in ipairs(redis.call('KEYS', '*:lock.default:{*')) do
          local record = redis.call('HGET', hash, 'k:' .. ARGV[1])
          if record then return string.byte(record) end
        end
        return 0";
    let first = server.admin(&["EVAL", FIRST, "0", key]).await.unwrap().integer().unwrap();
    match first {
        0 => Form::Absent,
        first if first < 0x80 => Form::Plain,
        _ => Form::Record,
    }
}

/// Returns locks whose every tag has granted something and so is open.
async fn open(server: &Redis) -> Opened {
    let opened = Opened::new(&single(server.url())).await;
    let guard = opened.acquire("k", long()).await;
    guard.release().await.unwrap();
    opened
}

#[trine_testkit::test]
async fn what_nobody_else_wants_is_granted_plainly() {
    let server = Redis::start().await.unwrap();
    let opened = open(&server).await;
    let tried = opened.locks.try_acquire("k", long()).await.unwrap().into_guard().unwrap();
    assert_eq!(form(&server, "k").await, Form::Plain);
    assert_eq!(tried.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(form(&server, "k").await, Form::Absent);
    let waited = opened.acquire("k", long()).await;
    assert_eq!(form(&server, "k").await, Form::Plain);
    drop(waited);
    until("the key given back", async || records(&server).await == 0).await;
    for options in [
        long().with_at_least(Duration::from_millis(1)),
        long().with_at_most(Duration::from_secs(700)),
    ] {
        let guard = opened.acquire("k", options).await;
        assert_eq!(form(&server, "k").await, Form::Record);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    }
    let read = opened.locks.acquire_read("k", long()).await.unwrap().into_guard().unwrap();
    assert_eq!(form(&server, "k").await, Form::Record);
    drop(read);
    opened.close().await;
}

#[trine_testkit::test]
async fn a_plain_grant_gets_waiters() {
    let server = Redis::start().await.unwrap();
    let (opened, other) = (open(&server).await, open(&server).await);
    let guard = opened.acquire("k", long()).await;
    assert_eq!(form(&server, "k").await, Form::Plain);
    let mut waiting = pin!(other.acquire("k", long()));
    tokio::select! {
        _ = &mut waiting => panic!("it was not held"),
        () = until("the line", async || form(&server, "k").await == Form::Record) => {}
    }
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    let next = in_time(waiting).await;
    assert_eq!(next.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(records(&server).await, 0);
    opened.close().await;
    other.close().await;
}

#[trine_testkit::test]
async fn a_plain_grant_is_extended() {
    let server = Redis::start().await.unwrap();
    let opened = open(&server).await;
    let guard = opened.acquire("k", long().with_ttl(Duration::from_secs(300))).await;
    guard.extend(Duration::from_secs(600)).await.unwrap();
    let page = opened.locks.holders("k", None, 1).await.unwrap();
    assert!(page.keys[0].holders[0].expires_in > Duration::from_secs(500));
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(records(&server).await, 0);
    opened.close().await;
}

#[trine_testkit::test]
async fn a_plain_grant_is_stolen() {
    let server = Redis::start().await.unwrap();
    let (opened, thief) = (open(&server).await, open(&server).await);
    let guard = opened.acquire("k", long()).await;
    assert_eq!(form(&server, "k").await, Form::Plain);
    let stolen = thief.locks.steal("k", long()).await.unwrap();
    assert!(stolen.fence().token() > guard.fence().token());
    assert_eq!(in_time(guard.lost()).await, LeaseEnd::Gone);
    assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::HeldByOther);
    assert_eq!(stolen.release().await.unwrap(), ReleaseOutcome::Released);
    opened.close().await;
    thief.close().await;
}

/// Whatever its label looks like.
#[trine_testkit::test]
async fn a_plain_grant_says_who_has_it() {
    let server = Redis::start().await.unwrap();
    let opened = open(&server).await;
    let full = "ж".repeat(LockOptions::MAX_TEXT / 2);
    for label in [" 12 3 ", "P000000000001 0 0 0 twn", "%d(.*)$", "{}#k:-1", "\u{a0}¼", &full] {
        let guard = opened.acquire("k", long().with_label(label)).await;
        assert_eq!(form(&server, "k").await, Form::Plain);
        let page = opened.locks.holders("k", None, 1).await.unwrap();
        let [holder] = &*page.keys[0].holders else { panic!("{page:?}") };
        assert_eq!(holder.label.as_deref(), Some(label));
        assert_eq!(&*holder.process, opened.locks.process());
        let token = guard.fence().token();
        assert_eq!(holder.state, HolderState::Holding { token });
        assert_eq!(holder.since, UNIX_EPOCH + Duration::from_micros(token));
        assert!(holder.expires_in <= Duration::from_secs(600));
        assert!(holder.expires_in > Duration::from_secs(300));
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    }
    opened.close().await;
}

/// It is what its holder leaves that dies.
#[trine_testkit::test]
async fn a_plain_grant_is_swept() {
    let server = Redis::start().await.unwrap();
    let opened = open(&server).await;
    let fast = |_: &mut _, store: &mut RedisStoreConfig| store.sweep_interval = Span::millis(10);
    let living = Opened::with(&single(server.url()), fast).await;
    let ttl = Duration::from_secs(2);
    let guard = opened.acquire("k", long().with_ttl(ttl)).await;
    assert_eq!(form(&server, "k").await, Form::Plain);
    opened.redis.shutdown(trine_core::Deadline::after(PATIENCE)).await.unwrap();
    until("the sweep", async || form(&server, "k").await == Form::Absent).await;
    drop(guard);
    living.close().await;
}

/// Until 2001 and from 2286 on the time has another width: no text is compared
/// with one of another.
#[trine_testkit::test]
async fn tokens_of_another_width_are_granted_too() {
    let server = Redis::builder().own_clock().start().await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    server.set_clock(999_999_000 - now).unwrap();
    let opened = Opened::new(&single(server.url())).await;
    let mut last = 0;
    for (seconds, digits) in [(999_999_100, 15), (1_000_000_100, 16)] {
        server.set_clock(seconds - now).unwrap();
        for expected in [Form::Record, Form::Plain, Form::Plain] {
            let guard = opened.acquire("k", long()).await;
            let token = guard.fence().token();
            assert_eq!((form(&server, "k").await, token.to_string().len()), (expected, digits));
            assert!(token > last);
            last = token;
            assert!(take(&opened.locks, "k").await.is_none());
            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        }
    }
    // Back below all that was granted.
    server.set_clock(999_999_500 - now).unwrap();
    for _ in 0..2 {
        let guard = opened.acquire("k", long()).await;
        assert_eq!(form(&server, "k").await, Form::Record);
        assert_eq!(guard.fence().token(), last + 1);
        last += 1;
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
    }
    opened.close().await;
}

/// The next server takes over the last token and leaves no field of the one
/// before.
#[trine_testkit::test]
async fn another_server_goes_on_with_the_last_token() {
    const FIELDS: &str = "for _, hash in ipairs(redis.call('KEYS', '*:lock.default:{*')) do
          if redis.call('HEXISTS', hash, 'k:k') == 1 then
            local run = redis.call('HGET', hash, 'run')
            return {redis.call('HLEN', hash), redis.call('HGET', hash, run)}
          end
        end";
    let server = Redis::builder().persistence(RedisPersistence::Always).own_clock();
    let server = server.start().await.unwrap();
    let mut last = 0;
    for round in 0..3 {
        if round > 0 {
            server.kill().await.unwrap();
            server.set_clock(-600 * round).unwrap();
            server.restart().await.unwrap();
        }
        let opened = Opened::new(&single(server.url())).await;
        for _ in 0..2 {
            let guard = opened.acquire("k", long()).await;
            let token = guard.fence().token();
            assert!(if round == 0 { token > last } else { token == last + 1 });
            last = token;
            let fields = server.admin(&["EVAL", FIELDS, "0"]).await.unwrap();
            let fields = fields.items();
            // `run`, what that names, and the key.
            assert_eq!(fields[0].integer(), Some(3));
            assert_eq!(fields[1].text(), Some(token.to_string()));
            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        }
        opened.close().await;
    }
}
