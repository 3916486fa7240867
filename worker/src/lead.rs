//! Which of a worker's request threads waits for events: one leads, the others wait for the lead.
//!
//! A thread that leads alone sleeps in the epoll set. When it has something to do it gives the lead up, and two things may follow. It may be
//! *offered*: another thread wakes up and takes it at once, so that the next connection finds somebody however long this request takes. Or it
//! stays *vacant*, and the thread takes it back when it is done: no wake-up, no thread that only waits for the interpreter lock. For that case
//! one of the others looks every [`TICK`] whether the same request is still being served, and takes the lead then. Short requests in quick
//! succession leave it vacant; after one that was not short it is offered a few times, the more often the more of them there are.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// How long a connection may find nobody because of a request that takes longer than those before it.
const TICK: Duration = Duration::from_millis(1);
const TICK_US: u64 = 1_000;
/// How often the lead is offered after such a request, at first and at most. (A single one may only have lost the processor for a moment.)
const EAGER: u32 = 2;
const EAGER_MAX: u32 = 1024;
/// So many requests without such a one, and the next counts as the first again.
const FORGIVEN: u64 = 64;

pub(crate) struct Lead {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// A thread has it.
    led: bool,
    /// It is free for whoever comes first.
    offered: bool,
    /// Threads that wait for it.
    waiting: usize,
    watch: Watch,
    /// How often it was taken.
    turns: u64,
    /// When it was taken last, in CLOCK_MONOTONIC microseconds.
    taken: Option<u64>,
    /// How often it is still to be offered, and how often that was to be.
    eager: u32,
    patience: u32,
    /// The turn of the last request that was not short.
    slow_turn: u64,
    over: bool,
}

/// Whether a waiting thread looks after a vacant lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Nobody,
    Wanted,
    Somebody,
}

/// What a thread that gives the lead up does for those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handover {
    Nothing,
    /// One of them has to wake up.
    Wake,
}

impl State {
    const fn new() -> Self {
        Self {
            led: false,
            offered: false,
            waiting: 0,
            watch: Watch::Nobody,
            turns: 0,
            taken: None,
            eager: 0,
            patience: 0,
            slow_turn: 0,
            over: false,
        }
    }

    fn take(&mut self, now: u64) {
        (self.led, self.offered, self.taken) = (true, false, Some(now));
        self.turns += 1;
    }

    fn give_up(&mut self, now: u64) -> Handover {
        self.led = false;
        let quick = self.taken.is_some_and(|taken| now.saturating_sub(taken) < TICK_US);
        if self.waiting == 0 {
            return Handover::Nothing;
        }
        if !quick || self.eager > 0 {
            self.eager = self.eager.saturating_sub(1);
            self.offered = true;
            return Handover::Wake;
        }
        if self.watch == Watch::Nobody {
            self.watch = Watch::Wanted;
            return Handover::Wake;
        }
        Handover::Nothing
    }

    /// What the watching thread makes of a tick that has passed since the lead was taken for the `seen`th time.
    fn tick(&mut self, seen: u64) -> Verdict {
        match (self.led, self.turns == seen) {
            (false, true) => {
                let again = self.patience > 0 && self.turns - self.slow_turn < u64::from(self.patience) + FORGIVEN;
                self.patience = if again { (self.patience * 2).min(EAGER_MAX) } else { EAGER };
                (self.eager, self.slow_turn) = (self.patience, self.turns);
                Verdict::Take
            }
            (true, true) => Verdict::Rest,
            (_, false) => Verdict::Watch,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    /// Nothing happens: there is nothing to watch.
    Rest,
    Watch,
}

impl Lead {
    pub fn new() -> Self {
        Self { state: Mutex::new(State::new()), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the lead. Returns without it only after [`Self::end`].
    pub fn take(&self, clock: &mut Clock) {
        let mut state = self.state();
        if state.led && !state.over {
            state.waiting += 1;
            state = self.wait(state);
            state.waiting -= 1;
            clock.forget();
        }
        state.take(clock.now());
    }

    fn wait<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        while !state.over && (state.led || !state.offered) {
            if state.watch != Watch::Wanted {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.watch = Watch::Somebody;
            let taken;
            (state, taken) = self.watch(state);
            state.watch = Watch::Nobody;
            if taken {
                break;
            }
        }
        state
    }

    /// Looks after the lead until there is nothing to look after; whether this thread has to take it.
    fn watch<'s>(&self, mut state: MutexGuard<'s, State>) -> (MutexGuard<'s, State>, bool) {
        loop {
            let seen = state.turns;
            let timed_out;
            (state, timed_out) = match self.changed.wait_timeout(state, TICK) {
                Ok((state, result)) => (state, result.timed_out()),
                Err(poisoned) => (poisoned.into_inner().0, false),
            };
            if state.over || (state.offered && !state.led) {
                return (state, true);
            }
            if !timed_out {
                continue;
            }
            match state.tick(seen) {
                Verdict::Take => return (state, true),
                Verdict::Rest => return (state, false),
                Verdict::Watch => {}
            }
        }
    }

    /// Gives the lead up for a request.
    pub fn give_up(&self, clock: &mut Clock) {
        let now = clock.now();
        let handover = self.state().give_up(now);
        if handover == Handover::Wake {
            self.changed.notify_one();
        }
    }

    /// Whether nobody has it, and nobody else is about to.
    pub fn is_vacant(&self) -> bool {
        let state = self.state();
        !state.led && !state.offered
    }

    /// The worker ends: nobody waits any longer.
    pub fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn waiting() -> State {
        State { led: true, waiting: 3, turns: 5, ..State::new() }
    }

    #[test]
    fn quick_requests_leave_it_vacant_and_one_thread_watches() {
        let (mut state, now) = (waiting(), 5_000_000);
        assert_eq!((state.give_up(now), state.offered), (Handover::Wake, true), "the first one after a pause is offered");
        state.take(now);
        let soon = now + TICK_US / 2;
        assert_eq!((state.give_up(soon), state.offered, state.watch), (Handover::Wake, false, Watch::Wanted));
        state.watch = Watch::Somebody;
        state.take(soon);
        assert_eq!((state.give_up(soon), state.offered), (Handover::Nothing, false), "it watches already");
    }

    #[test]
    fn a_long_request_loses_it_and_then_it_is_offered_a_few_times() {
        let (mut state, now) = (State { watch: Watch::Somebody, ..waiting() }, 5_000_000);
        let mut offered_after_a_long_request = |pause: u64| {
            state.take(now);
            let _ = state.give_up(now);
            let turn = state.turns;
            assert_eq!(state.tick(turn - 1), Verdict::Watch, "it was taken since");
            assert_eq!(state.tick(turn), Verdict::Take);
            state.take(now);
            assert_eq!(state.tick(turn + 1), Verdict::Rest, "whoever leads only waits");
            let offers = std::iter::from_fn(|| {
                state.give_up(now);
                let offered = state.offered;
                state.take(now);
                offered.then_some(())
            });
            let offers = offers.count();
            state.turns += pause;
            offers
        };
        assert_eq!([0, 0, 0, 500, 0].map(&mut offered_after_a_long_request), [2, 4, 8, 16, 2]);
    }

    #[test]
    fn nobody_who_waits_is_forgotten() {
        let (lead, mut clock) = (Lead::new(), Clock::default());
        lead.take(&mut clock);
        let (said, heard) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (lead, said) = (&lead, said.clone());
                scope.spawn(move || {
                    lead.take(&mut Clock::default());
                    let _ = said.send(());
                });
            }
            while lead.state().waiting < 3 {
                std::thread::yield_now();
            }
            // Each that takes it keeps busy for ever: the next one has to come all the same, offered or not.
            lead.give_up(&mut clock);
            heard.recv().expect("the first");
            lead.give_up(&mut clock);
            heard.recv().expect("the second");
            lead.end();
            heard.recv().expect("the end");
        });
    }
}
