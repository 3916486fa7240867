//! Harakiri inside of the worker: one thread that sleeps until the next request can be over its time, and for as long as there is none.
//!
//! A request that is, is interrupted by its language: it alone ends, with a 504. One that cannot be (it is in code of another kind, or does not
//! let itself be interrupted) ends with its process, but the requests beside it are finished first: the worker accepts nothing more, and ends when
//! the stuck ones are all that is left. The master says what happens in the log, counts, and kills a worker in which not even this works.
//!
//! With `harakiri-graceful-timeout` none of it happens: there the master's signal says what to do.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use imperator_sys::{process, signals, socket};
use std::os::fd::AsFd;

use crate::clock::monotonic_ms;
use crate::control::{FromWorker, exit};
use crate::log::diag;
use crate::scoreboard::{CoreCell, WorkerCell, sleeper};
use crate::settings::Settings;
use crate::shared::Shared;

/// Milliseconds from the interruption of a request until it is taken for one that cannot be interrupted.
pub const PATIENCE_MS: u64 = 1000;
/// Between two attempts to interrupt it, and between two looks at a queue that is too short.
const AGAIN_MS: u64 = 500;
/// Between two looks at the neighbours of one that cannot be.
const LOOK_MS: u64 = 50;

/// Milliseconds that the neighbours of a stuck request have to end: what the shorter of `harakiri` and `worker-reload-mercy` gives.
pub fn neighbours_ms(settings: &Settings) -> u64 {
    let (limit, mercy) = (settings.limits.harakiri, settings.reload.worker_mercy);
    u64::from(if limit > 0 { limit.min(mercy) } else { mercy }) * 1000
}

/// One core's request over its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Strike {
    /// The deadline of that request, which tells it from others; 0: none.
    deadline: u64,
    /// When it was first interrupted, and when it will be the next time.
    since: u64,
    again_at: u64,
}

/// What to do about a core, and when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine { until: u64 },
    Interrupt { until: u64 },
    Waits { until: u64 },
    Hopeless,
}

impl Strike {
    /// `deadline`: of the request that runs there now; 0: none. `limit`: `harakiri`, in milliseconds.
    fn judge(&mut self, deadline: u64, limit: u64, now: u64) -> Verdict {
        if deadline == 0 || deadline > now {
            *self = Self::default();
            let fresh = now + limit;
            return Verdict::Fine { until: if deadline == 0 { fresh } else { deadline.min(fresh) } };
        }
        if self.deadline != deadline {
            *self = Self { deadline, since: now, again_at: now };
        }
        if now >= self.since + PATIENCE_MS {
            Verdict::Hopeless
        } else if now >= self.again_at {
            self.again_at = now + AGAIN_MS;
            Verdict::Interrupt { until: self.again_at }
        } else {
            Verdict::Waits { until: self.again_at }
        }
    }
}

#[derive(Default)]
struct Bell {
    rung: bool,
    ended: bool,
}

/// The process's own: a deadline may be set by any thread that serves.
static BELL: Mutex<Bell> = Mutex::new(Bell { rung: false, ended: false });
static RING: Condvar = Condvar::new();

fn bell() -> MutexGuard<'static, Bell> {
    BELL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A deadline was set that may be sooner than all that the thread knows.
pub(crate) fn ring() {
    bell().rung = true;
    RING.notify_all();
}

/// A request has begun: whoever sleeps until one does is woken. For workers of which somebody does.
pub(crate) fn rouse(shared: &Shared<'_>) {
    fence(SeqCst);
    let sleepers = shared.slot.cell(WorkerCell::Sleepers);
    if sleepers.load(Relaxed) == 0 {
        return;
    }
    let woken = sleepers.swap(0, SeqCst);
    if woken & sleeper::WATCHDOG != 0 {
        ring();
    }
    if let Some(link) = shared.config.link.as_ref().filter(|_| woken & sleeper::MASTER != 0) {
        link.tell(&FromWorker::Deadline);
    }
}

/// Whether anybody may sleep until a request begins.
pub(crate) fn has_sleepers(settings: &Settings) -> bool {
    settings.limits.harakiri > 0 || settings.process.cheaper.is_some()
}

/// Whether no request runs, and the one that begins next will ring.
fn may_sleep(shared: &Shared<'_>) -> bool {
    let calm =
        || (0..shared.settings.process.threads.max(1)).all(|core| shared.slot.core(core).is_none_or(|c| c.get(CoreCell::Deadline) == 0));
    if !calm() {
        return false;
    }
    shared.slot.cell(WorkerCell::Sleepers).fetch_or(sleeper::WATCHDOG, SeqCst);
    fence(SeqCst);
    calm()
}

/// Before the thread is started: an [`end`] that comes before its first step counts. (The process is forked from one that may have had a worker's life.)
pub(crate) fn begin() {
    *bell() = Bell::default();
}

/// The thread ends.
pub(crate) fn end() {
    bell().ended = true;
    RING.notify_all();
}

/// Whether a worker of these settings has such a thread.
pub fn wanted(settings: &Settings) -> bool {
    settings.limits.harakiri > 0 && settings.limits.harakiri_graceful_timeout == 0
}

/// From [`begin`] until [`end`].
pub(crate) fn watch<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared<'_>) {
    let mut strikes = vec![Strike::default(); shared.settings.process.threads.max(1) as usize];
    let mut drained_at = None;
    loop {
        let now = monotonic_ms();
        let (stuck, mut until) = look(scope, shared, &mut strikes, now);
        if stuck > 0 {
            let since = *drained_at.get_or_insert_with(|| {
                drain(shared, stuck);
                now
            });
            if shared.live() <= stuck || now >= since + neighbours_ms(shared.settings) {
                process::exit_now(if shared.draining() { shared.exit_code() } else { exit::RELOAD });
            }
            until = now + LOOK_MS;
        }
        let sleeps = stuck == 0 && may_sleep(shared);
        let mut bell = bell();
        if sleeps {
            bell = RING.wait_while(bell, |bell| !bell.rung && !bell.ended).unwrap_or_else(PoisonError::into_inner);
        } else if !bell.rung && !bell.ended {
            let time = Duration::from_millis(until.saturating_sub(now).max(1));
            bell = RING.wait_timeout(bell, time).map_or_else(|e| e.into_inner().0, |(bell, _)| bell);
        }
        if bell.ended {
            return;
        }
        bell.rung = false;
    }
}

/// How many requests are stuck for good, and when to look again.
fn look<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared<'_>, strikes: &mut [Strike], now: u64) -> (usize, u64) {
    let limit = u64::from(shared.settings.limits.harakiri) * 1000;
    let (mut stuck, mut next) = (0, now + limit);
    for (core, strike) in (0..).zip(strikes) {
        let mut deadline = shared.slot.core(core).map_or(0, |slot| slot.get(CoreCell::Deadline));
        if deadline != 0 && deadline <= now && strike.deadline != deadline && !is_crowded(shared) {
            deadline = now + AGAIN_MS; // `harakiri-queue-threshold`: not while nobody waits
        }
        let until = match strike.judge(deadline, limit, now) {
            Verdict::Fine { until } | Verdict::Waits { until } => until,
            Verdict::Interrupt { until } => {
                // In a thread of its own: it may wait for the language's lock for as long as the stuck request holds that.
                let interrupt = move || {
                    shared.language.interrupt(core);
                };
                let _ = std::thread::Builder::new().name("harakiri".into()).spawn_scoped(scope, interrupt);
                until
            }
            Verdict::Hopeless => {
                stuck += 1;
                now + LOOK_MS
            }
        };
        next = next.min(until);
    }
    (stuck, next)
}

fn is_crowded(shared: &Shared<'_>) -> bool {
    let threshold = shared.settings.limits.harakiri_queue_threshold;
    let queue = |listener: &std::os::fd::OwnedFd| socket::listen_queue(listener.as_fd()).map_or(0, |(queue, _)| queue);
    threshold == 0 || shared.config.listeners.iter().any(|listener| queue(listener) >= threshold)
}

/// Nothing more is accepted; a thread that is not stuck closes what is idle.
fn drain(shared: &Shared<'_>, stuck: usize) {
    let worker = shared.config.worker;
    let beside = shared.live().saturating_sub(stuck);
    diag::say(&format!(
        "HARAKIRI: worker {worker} (pid: {}): {stuck} of its requests cannot be interrupted: it ends, after the {beside} other connections that it has",
        shared.pid
    ));
    shared.slot.cell(WorkerCell::Accepting).store(0, Relaxed);
    signals::order(signals::GRACEFUL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_time_is_left_alone_and_the_next_look_is_no_earlier_than_needed() {
        let mut strike = Strike::default();
        assert_eq!(strike.judge(0, 5000, 100), Verdict::Fine { until: 5100 });
        assert_eq!(strike.judge(3000, 5000, 100), Verdict::Fine { until: 3000 });
        assert_eq!(strike.judge(90_000, 5000, 100), Verdict::Fine { until: 5100 }, "another one may begin on this core");
    }

    #[test]
    fn one_over_its_time_is_interrupted_twice_and_then_given_up() {
        let mut strike = Strike::default();
        assert_eq!(strike.judge(1000, 500, 1000), Verdict::Interrupt { until: 1500 });
        assert_eq!(strike.judge(1000, 500, 1400), Verdict::Waits { until: 1500 });
        assert_eq!(strike.judge(1000, 500, 1500), Verdict::Interrupt { until: 2000 });
        assert_eq!(strike.judge(1000, 500, 2000), Verdict::Hopeless);
    }

    #[test]
    fn the_next_request_of_a_core_starts_anew() {
        let mut strike = Strike::default();
        strike.judge(1000, 500, 1900);
        assert_eq!(strike.judge(1600, 500, 1950), Verdict::Interrupt { until: 2450 }, "another request, over its own time");
        assert_eq!(strike.judge(0, 500, 3000), Verdict::Fine { until: 3500 });
        assert_eq!(strike, Strike::default());
    }

    #[test]
    fn neighbours_have_as_long_as_a_request_may_take() {
        let mut settings = Settings::default();
        settings.limits.harakiri = 5;
        assert_eq!(neighbours_ms(&settings), 5000);
        settings.limits.harakiri = 600;
        assert_eq!(neighbours_ms(&settings), 60_000);
        settings.limits.harakiri = 0;
        assert_eq!((neighbours_ms(&settings), wanted(&settings)), (60_000, false));
    }
}
