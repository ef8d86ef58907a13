//! One direction of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::buffer::Buffer;
use super::framing::Framing;
use super::{Flow, Setting, Settings};

/// Most bytes held back per direction; beyond it the sender has to wait.
const MOST_HELD: usize = 1 << 20;
/// A throttled direction moves this often.
const THROTTLE_TICKS: u32 = 50;

#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Requests,
    Replies,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The sender has said its last byte, and the receiver was told.
    HalfClosed,
    /// Both directions are to end.
    ForBoth(End),
}

/// What may happen now.
#[derive(Debug)]
enum Turn {
    /// Nothing is there, or nothing may pass.
    Wait,
    /// So many bytes may pass.
    Write(usize),
    /// The next byte may pass then.
    At(Instant),
    /// The next packet may pass with a permit.
    Permit,
    End(End),
}

/// Passes bytes from `reader` to `writer` as the settings say.
pub(super) async fn pump(
    direction: Direction,
    mut reader: ReadHalf<'_>,
    mut writer: WriteHalf<'_>,
    mut settings: watch::Receiver<Settings>,
    passed: &AtomicU64,
) -> Ended {
    let (setting, mut steps) = current(&mut settings, direction);
    let framing = Framing::of(settings.borrow().protocol);
    let mut valve = Valve::new(setting, framing);
    let mut held = Buffer::default();
    let mut is_over = false;
    let mut chunk = [0; 16 * 1_024];
    loop {
        let turn = valve.turn(&held, Instant::now());
        if let Turn::End(end) = turn {
            return Ended::ForBoth(end);
        }
        if is_over && held.is_empty() {
            return match writer.shutdown().await {
                Ok(()) => Ended::HalfClosed,
                Err(_) => Ended::ForBoth(End::Reset),
            };
        }
        let may_read = !is_over && held.len() < MOST_HELD && valve.flow() != Flow::Hang;
        let (may_write, wake_at) = match turn {
            Turn::Write(most) => (held.front(most), None),
            Turn::At(instant) => (&[][..], Some(instant)),
            Turn::Wait | Turn::Permit | Turn::End(_) => (&[][..], None),
        };
        tokio::select! {
            biased;
            changed = settings.changed() => {
                if changed.is_err() {
                    return Ended::ForBoth(End::Reset);
                }
                let (setting, new_steps) = current(&mut settings, direction);
                steps = new_steps;
                valve.set(setting);
            }
            written = writer.write(may_write), if !may_write.is_empty() => {
                let Some(count) = written.ok().filter(|count| *count > 0) else {
                    return Ended::ForBoth(End::Reset);
                };
                valve.passed(held.front(count), Instant::now());
                held.consume(count);
                passed.fetch_add(count as u64, Ordering::SeqCst);
            }
            permit = Arc::clone(&steps).acquire_owned(), if matches!(turn, Turn::Permit) => {
                if let Ok(permit) = permit {
                    permit.forget();
                    valve.grant(&held);
                }
            }
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            read = reader.read(&mut chunk), if may_read => match read {
                Ok(0) => is_over = true,
                Ok(count) => held.push(chunk.get(..count).unwrap_or_default(), Instant::now()),
                Err(_) => return Ended::ForBoth(End::Reset),
            }
        }
    }
}

fn current(
    settings: &mut watch::Receiver<Settings>,
    direction: Direction,
) -> (Setting, Arc<Semaphore>) {
    let settings = settings.borrow_and_update();
    let setting = match direction {
        Direction::Requests => settings.requests,
        Direction::Replies => settings.replies,
    };
    (setting, Arc::clone(&settings.steps))
}

/// Decides what passes.
struct Valve {
    setting: Setting,
    framing: Framing,
    /// Bytes that passed since the flow was set.
    since_set: u64,
    /// Bytes of a packet that a permit or its turn lets pass.
    granted: usize,
    /// When a throttled or paced direction may go on.
    next_at: Instant,
}

impl Valve {
    fn new(setting: Setting, framing: Framing) -> Self {
        Self { setting, framing, since_set: 0, granted: 0, next_at: Instant::now() }
    }

    fn flow(&self) -> Flow {
        self.setting.flow
    }

    fn set(&mut self, setting: Setting) {
        if setting.times != self.setting.times {
            self.since_set = 0;
            self.granted = 0;
            self.next_at = Instant::now();
        }
        self.setting = setting;
    }

    fn turn(&self, held: &Buffer, now: Instant) -> Turn {
        let most = held.len();
        match self.setting.flow {
            Flow::CutAfter(limit) => self.up_to(limit, most, End::Closed),
            Flow::ResetAfter(limit) => self.up_to(limit, most, End::Reset),
            Flow::Hang | Flow::Throttle(0) => Turn::Wait,
            _ if most == 0 => Turn::Wait,
            Flow::Pass => Turn::Write(most),
            Flow::Delay(span) => match held.arrived_before(now.checked_sub(span)) {
                0 => held.oldest().map_or(Turn::Wait, |arrived| Turn::At(arrived + span)),
                due => Turn::Write(due),
            },
            Flow::Throttle(_) | Flow::Packets(_) if now < self.next_at => Turn::At(self.next_at),
            Flow::Throttle(rate) => Turn::Write(most.min((rate / THROTTLE_TICKS).max(1) as usize)),
            Flow::Step | Flow::Packets(_) => {
                // The rest of a packet that began to pass before belongs to it.
                match self.granted.max(self.framing.left(held)) {
                    0 if self.framing.next_packet(held).is_none() => Turn::Wait,
                    0 if self.setting.flow == Flow::Step => Turn::Permit,
                    0 => Turn::Write(self.framing.next_packet(held).unwrap_or(0).min(most)),
                    left => Turn::Write(left.min(most)),
                }
            }
        }
    }

    fn up_to(&self, limit: u64, most: usize, end: End) -> Turn {
        match limit.saturating_sub(self.since_set) {
            0 => Turn::End(end),
            _ if most == 0 => Turn::Wait,
            left => Turn::Write(most.min(usize::try_from(left).unwrap_or(usize::MAX))),
        }
    }

    /// Lets the next packet pass.
    fn grant(&mut self, held: &Buffer) {
        self.granted = self.framing.next_packet(held).unwrap_or(0);
    }

    fn passed(&mut self, bytes: &[u8], now: Instant) {
        self.since_set += bytes.len() as u64;
        self.granted = self.granted.saturating_sub(bytes.len());
        self.framing.advance(bytes);
        match self.setting.flow {
            Flow::Throttle(rate) if rate > 0 => {
                let span = Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
                self.next_at = self.next_at.max(now) + span;
            }
            Flow::Packets(pause) if self.framing.is_between() => self.next_at = now + pause,
            _ => {}
        }
    }
}
