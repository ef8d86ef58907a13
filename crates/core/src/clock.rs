use std::fmt;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// A moment on a [`Clock`] that counts suspend; comparable within one clock only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// Returns the moment `elapsed` after the clock's own beginning.
    #[must_use]
    pub const fn from_elapsed(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Returns the time since the clock's own beginning.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// Returns the time from `earlier` to this moment, zero if it is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// A sleep of a [`Clock`].
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where time comes from when a suspended machine must count as time gone by.
///
/// Timers follow [`now`](Self::now) only: a jump of the wall clock changes none
/// of them.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the present moment. It never goes back, and goes on while the
    /// machine is suspended.
    fn now(&self) -> Moment;

    /// Returns the wall clock, for people and records. It may jump.
    fn wall(&self) -> SystemTime;

    /// Completes once [`now`](Self::now) has reached `moment`.
    fn sleep_until(&self, moment: Moment) -> Sleep<'_>;
}

/// The clock of the operating system.
///
/// On Linux and Android it reads `CLOCK_BOOTTIME`; on other Unix systems
/// `CLOCK_MONOTONIC`, which counts suspend on Apple systems only; elsewhere
/// tokio's clock. Its sleeps notice the end of a suspend within a quarter of a
/// second. It does not follow tokio's paused time: use [`ManualClock`] there.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Timers stand still while the machine is suspended, so that a long sleep has
/// to look at the clock now and then.
const LOOK: Duration = Duration::from_millis(250);

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(since_boot())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep<'_> {
        Box::pin(async move {
            loop {
                let left = moment.saturating_since(self.now());
                if left.is_zero() {
                    return;
                }
                sleep(left.min(LOOK)).await;
            }
        })
    }
}

#[cfg(unix)]
fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const ID: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ID: ClockId = ClockId::Monotonic;

    let time = clock_gettime(ID);
    let secs = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(secs, nanos)
}

#[cfg(not(unix))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;

    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

/// A clock that tests move. Clones share it.
///
/// A new one stands still until [`advance`](Self::advance); with a
/// [rate](Self::with_rate) it also follows tokio's clock, paused or not, slower
/// or faster, as the clocks of two machines differ.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use trine_core::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(clock.now().saturating_since(before), Duration::from_secs(3));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    shared: Arc<Manual>,
}

#[derive(Debug)]
struct Manual {
    rate: f64,
    origin: Instant,
    times: Mutex<Times>,
    moved: watch::Sender<()>,
}

#[derive(Debug)]
struct Times {
    advanced: Duration,
    /// The wall clock at the clock's own beginning.
    wall: SystemTime,
}

impl ManualClock {
    /// Returns a clock that stands still, its wall clock a day after 2024 began.
    #[must_use]
    pub fn new() -> Self {
        Self::with_rate(0.0)
    }

    /// Returns a clock that goes `rate` times as fast as tokio's. Negative
    /// rates count as 0.
    #[must_use]
    pub fn with_rate(rate: f64) -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_153_600);
        Self {
            shared: Arc::new(Manual {
                rate: if rate.is_finite() { rate.max(0.0) } else { 0.0 },
                origin: Instant::now(),
                // Not at zero, so that tests can subtract.
                times: Mutex::new(Times { advanced: Duration::from_secs(86_400), wall }),
                moved: watch::Sender::new(()),
            }),
        }
    }

    /// Moves the clock and its wall clock forward, and wakes whoever slept
    /// until then.
    pub fn advance(&self, span: Duration) {
        self.shared.times.lock().unwrap_or_else(PoisonError::into_inner).advanced += span;
        self.shared.moved.send_replace(());
    }

    /// Sets the wall clock; [`now`](Clock::now) and sleeps do not change.
    pub fn set_wall(&self, wall: SystemTime) {
        let elapsed = self.now().0;
        let mut times = self.shared.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.wall = wall.checked_sub(elapsed).unwrap_or(SystemTime::UNIX_EPOCH);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let followed = self.shared.origin.elapsed().mul_f64(self.shared.rate);
        let times = self.shared.times.lock().unwrap_or_else(PoisonError::into_inner);
        Moment(times.advanced + followed)
    }

    fn wall(&self) -> SystemTime {
        let elapsed = self.now().0;
        self.shared.times.lock().unwrap_or_else(PoisonError::into_inner).wall + elapsed
    }

    fn sleep_until(&self, moment: Moment) -> Sleep<'_> {
        Box::pin(async move {
            let mut moved = self.shared.moved.subscribe();
            loop {
                moved.borrow_and_update();
                let left = moment.saturating_since(self.now());
                if left.is_zero() {
                    return;
                }
                let followed = async {
                    if self.shared.rate > 0.0 {
                        sleep(left.div_f64(self.shared.rate)).await;
                    } else {
                        std::future::pending().await
                    }
                };
                tokio::select! {
                    () = followed => {}
                    // The sender lives as long as `self`.
                    _ = moved.changed() => {}
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn the_system_clock_goes_on_and_wakes_sleepers() {
        let clock = SystemClock;
        let until = clock.now() + Duration::from_millis(5);
        clock.sleep_until(until).await;
        assert!(clock.now() >= until);
        clock.sleep_until(until - HOUR).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_manual_clock_stands_still_until_it_is_advanced() {
        let clock = ManualClock::new();
        let start = clock.now();
        tokio::time::advance(HOUR).await;
        assert_eq!(clock.now(), start);
        let mut slept = Polled(clock.sleep_until(start + HOUR));
        assert!(!slept.is_over().await);
        clock.advance(HOUR - Duration::from_nanos(1));
        assert!(!slept.is_over().await);
        clock.advance(Duration::from_nanos(1));
        assert!(slept.is_over().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_skewed_clock_follows_tokio_at_its_rate() {
        let slow = ManualClock::with_rate(0.5);
        let started = Instant::now();
        slow.sleep_until(slow.now() + HOUR).await;
        let took = started.elapsed();
        assert!(took >= HOUR * 2 && took < HOUR * 2 + Duration::from_millis(5), "{took:?}");
    }

    // CO-18
    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_wall_clock_moves_no_timer() {
        let clock = ManualClock::new();
        let (start, wall) = (clock.now(), clock.wall());
        let mut slept = Polled(clock.sleep_until(start + HOUR));
        clock.set_wall(wall + HOUR * 2);
        assert_eq!((clock.now(), clock.wall()), (start, wall + HOUR * 2));
        assert!(!slept.is_over().await);
        clock.set_wall(wall - HOUR);
        clock.advance(HOUR);
        assert!(slept.is_over().await);
        assert_eq!(clock.wall(), wall);
    }

    struct Polled<'a>(Sleep<'a>);

    impl Polled<'_> {
        async fn is_over(&mut self) -> bool {
            std::future::poll_fn(|cx| std::task::Poll::Ready(self.0.as_mut().poll(cx).is_ready()))
                .await
        }
    }
}
