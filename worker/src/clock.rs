//! The clocks that the scoreboard and the log lines are written with.

#[cfg(not(debug_assertions))]
pub(crate) use imperator_sys::process::{coarse_ms, epoch_micros, monotonic_ms, monotonic_us};

#[cfg(debug_assertions)]
pub(crate) use counted::{coarse_ms, epoch_micros, monotonic_ms, monotonic_us, reads};

/// Microseconds for which the wall clock is reckoned from the other one: so late is it noticed that somebody has set it.
const RECKONED_US: u64 = 10_000;

/// A request thread's clock. It is read at the end of a request, and that is when the next one begins, unless the thread had to wait for it or
/// did something else that takes time: to ask twice what has hardly changed costs as much as to ask once.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// CLOCK_MONOTONIC in microseconds, if next to no time has passed since it was read.
    now: Option<u64>,
    /// What the wall clock is ahead of it, and when that was so.
    ahead: u64,
    compared: Option<u64>,
}

impl Clock {
    /// Reads it if need be.
    pub fn now(&mut self) -> u64 {
        *self.now.get_or_insert_with(monotonic_us)
    }

    /// Reads it.
    pub fn read(&mut self) -> u64 {
        self.forget();
        self.now()
    }

    /// Time passes.
    pub fn forget(&mut self) {
        self.now = None;
    }

    /// For deadlines, to a few milliseconds.
    pub fn about_ms(&self) -> u64 {
        self.now.map_or_else(coarse_ms, |now| now / 1000)
    }

    /// The wall clock at [`Self::now`], in microseconds since the epoch.
    pub fn wall(&mut self) -> u64 {
        let now = self.now();
        if self.compared.is_none_or(|compared| now.wrapping_sub(compared) >= RECKONED_US) {
            (self.ahead, self.compared) = (epoch_micros().wrapping_sub(now), Some(now));
        }
        now.wrapping_add(self.ahead)
    }
}

/// Debug builds count how often a thread reads a clock.
#[cfg(debug_assertions)]
mod counted {
    use std::cell::Cell;

    use imperator_sys::process;

    thread_local! {
        static READS: Cell<u64> = const { Cell::new(0) };
    }

    fn count<T>(value: T) -> T {
        READS.with(|reads| reads.set(reads.get() + 1));
        value
    }

    pub(crate) fn reads() -> u64 {
        READS.with(Cell::get)
    }

    pub(crate) fn monotonic_ms() -> u64 {
        count(process::monotonic_ms())
    }

    pub(crate) fn monotonic_us() -> u64 {
        count(process::monotonic_us())
    }

    pub(crate) fn epoch_micros() -> u64 {
        count(process::epoch_micros())
    }

    pub(crate) fn coarse_ms() -> u64 {
        count(process::coarse_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_until_it_is_forgotten() {
        let mut clock = Clock::default();
        let first = clock.now();
        while monotonic_us() == first {}
        assert_eq!((clock.now(), clock.about_ms()), (first, first / 1000));
        assert!(clock.read() > first);
        clock.forget();
        assert!(clock.about_ms() * 1000 <= monotonic_us() && clock.now() > first);
    }

    #[test]
    fn the_wall_clock_is_reckoned_for_a_while() {
        let mut clock = Clock::default();
        let before = epoch_micros();
        let wall = clock.wall();
        assert!((before.saturating_sub(1_000)..=epoch_micros()).contains(&wall), "{before} {wall}");
        // As if somebody had set the clock since.
        clock.ahead -= 3_600_000_000;
        assert_eq!(clock.wall(), wall - 3_600_000_000, "not yet");
        clock.now = clock.now.map(|now| now + RECKONED_US);
        assert!(clock.wall() >= before, "noticed");
    }
}
