use std::fmt::Write;
use std::time::Duration;

use trine_core::Fence;

use crate::{Mode, Shape, Want};

/// The longest ttl of a plain grant in microseconds: it has twelve digits.
const MOST_PLAIN: u64 = 999_999_999_999;

/// Returns a question as scripts read it, and as it is kept with a plain grant.
///
/// It begins with `P` if it may become one: nobody else may have the key beside
/// it, and there is nothing to note but until when it is held.
pub(super) fn text(want: &Want, settings: &str, hears: bool) -> String {
    let (mode, next) = match want.mode {
        Mode::Try => ('t', None),
        Mode::Wait { next } => ('w', next),
        Mode::Steal => ('s', None),
    };
    let (ttl, at_most) = (micros(want.terms.ttl()), want.terms.at_most());
    let is_plain = want.shape == Shape::Write
        && want.mode != Mode::Steal
        && next.is_none()
        && want.at_least.is_none()
        && at_most.is_none()
        && ttl <= MOST_PLAIN;
    let (wants, of) = shape(Some(want.shape));
    let (next, next_of) = shape(next);
    let least = micros(want.at_least.unwrap_or_default());
    let most = micros(at_most.unwrap_or_default());
    let (process, label) = (&*want.waiter.process, want.label.as_deref().unwrap_or_default());
    let mut text = String::with_capacity(128 + process.len() + label.len());
    // A `String` takes everything.
    let _ = write!(
        text,
        "{kind}{ttl:012} {settings} {mode}{wants}{next} {of} {next_of} {least} {most} {lane} {hears} \
         {nonce} {length} {process}{label}",
        kind = if is_plain { 'P' } else { 'Q' },
        lane = want.waiter.lane,
        hears = u8::from(hears),
        nonce = want.nonce,
        length = process.len(),
    );
    text
}

/// Returns a shape as scripts know it.
pub(super) fn shape(shape: Option<Shape>) -> (&'static str, u32) {
    match shape {
        None => ("n", 0),
        Some(Shape::Write) => ("w", 0),
        Some(Shape::Read) => ("r", 0),
        Some(Shape::Permit { of }) => ("p", of.get()),
    }
}

/// Returns whole microseconds, of which a fence has no more either.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(Fence::MAX_TOKEN).min(Fence::MAX_TOKEN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trine_core::{LeaseTerms, Secret};
    use trine_redis::{RedisConfig, RedisService};
    use trine_testkit::Redis;

    use super::*;
    use crate::{
        Answer, Call, Key, LockBackend, LockConfig, RedisBackend, RedisStoreConfig, Waiter,
    };

    fn want(process: &str, label: Option<&str>, nonce: u64) -> Want {
        let ttl = Duration::from_secs(600);
        Want {
            key: Key::new("k").unwrap(),
            shape: Shape::Write,
            terms: LeaseTerms::new(ttl, ttl / 10).unwrap(),
            at_least: None,
            waiter: Waiter::new(&process.into(), 7),
            label: label.map(Into::into),
            mode: Mode::Try,
            nonce,
        }
    }

    #[test]
    fn only_what_needs_no_more_is_plain() {
        let plain = want("p", Some("l"), 5);
        assert_eq!(text(&plain, "1 2 1", true), "P000600000000 1 2 1 twn 0 0 0 0 7 1 5 1 pl");
        let is_plain = |change: fn(&mut Want)| {
            let mut want = plain.clone();
            change(&mut want);
            text(&want, "1 2 1", true).starts_with('P')
        };
        assert!(is_plain(|want| want.mode = Mode::Wait { next: None }));
        assert!(!is_plain(|want| want.mode = Mode::Wait { next: Some(Shape::Read) }));
        assert!(!is_plain(|want| want.mode = Mode::Steal));
        assert!(!is_plain(|want| want.shape = Shape::Read));
        assert!(!is_plain(|want| want.at_least = Some(Duration::from_secs(1))));
        assert!(!is_plain(|want| {
            let long = Duration::from_secs(1_000_000);
            want.terms = LeaseTerms::new(long, long / 10).unwrap();
        }));
    }

    /// Scripts find the two whatever bytes they have.
    #[trine_testkit::test]
    async fn texts_of_any_bytes_come_back() {
        let server = Redis::shared().await.unwrap();
        let config = RedisConfig::single(server.namespace(), Secret::new(server.url()));
        let redis = RedisService::connect(&config).await.unwrap();
        let clock_margin = trine_core::Span::millis(0);
        let store = RedisStoreConfig { clock_margin, ..RedisStoreConfig::default() };
        let name: Arc<str> = "lock.odd".into();
        let backend =
            RedisBackend::open(&name, redis.pool(), &store, &LockConfig::redis("main")).unwrap();
        let call = Call::new("test");
        let odd =
            ["", " ", "\0", "a\r\n b\0", "P1 2 3 twn 0", "12", "%d+ ()", "ж\u{7f}\"'\\", "k:k#1"];
        let mut nonce = u64::MAX - 1_000;
        for process in odd {
            for label in odd {
                nonce += 1;
                let mine = want(process, Some(label), nonce);
                let granted = backend.acquire(call, &mine).await.unwrap();
                assert_eq!(backend.acquire(call, &mine).await.unwrap(), granted);
                let refused = backend.acquire(call, &want("other", None, nonce)).await.unwrap();
                let Answer::Held { holder, .. } = refused else { panic!("{refused:?}") };
                assert_eq!(&*holder.process, process);
                assert_eq!(holder.label.as_deref().unwrap_or_default(), label);
                backend.withdraw(call, &mine.key, &mine.waiter).await.unwrap();
                let Answer::Granted(fence) = granted else { panic!("{granted:?}") };
                let claims = [trine_core::Claim::new(fence, mine.terms)];
                let released = backend.release(call, &claims).await.unwrap();
                assert_eq!(released, [crate::ReleaseOutcome::Released]);
            }
        }
    }
}
