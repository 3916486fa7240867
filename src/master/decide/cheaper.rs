//! How many workers there should be.

use nix::libc::SIGHUP;
use serde::{Deserialize, Serialize};

use super::generation::Stage;
use super::workers::{Leaving, Life, Reason, Slot};
use super::{Action, Instance, Ms};

/// The `spare` algorithm with its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cheaper {
    /// `cheaper`: never fewer.
    pub least: u32,
    /// `workers`: never more.
    pub most: u32,
    pub step: u32,
    /// Seconds (ticks) that a state lasts before anything is done.
    pub overload: u32,
    overloaded: u32,
    idle: u32,
}

/// What the scoreboard says at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Workers that there are or will be.
    pub workers: u32,
    pub busy: u32,
}

impl Cheaper {
    pub fn new(least: u32, most: u32, step: u32, overload: u32) -> Self {
        Self { least, most, step: step.max(1), overload, overloaded: 0, idle: 0 }
    }

    /// Once a second: how many workers there should be from now on. All busy for longer than `overload` ticks: `step` more. More than one free
    /// for `overload` ticks: one fewer.
    pub fn tick(&mut self, load: Load) -> u32 {
        let free = load.workers.saturating_sub(load.busy);
        (self.overloaded, self.idle) = match free {
            0 => (self.overloaded + 1, 0),
            1 => (0, 0),
            _ => (0, self.idle + 1),
        };
        if self.overloaded > self.overload {
            self.overloaded = 0;
            return (load.workers + self.step).min(self.most);
        }
        if self.idle >= self.overload.max(1) && load.workers > self.least {
            self.idle = 0;
            return load.workers - 1;
        }
        load.workers
    }
}

impl Instance {
    /// Starts or retires workers until `wanted` are there.
    pub(super) fn population(&mut self, generation: u64, wanted: u32, now: Ms, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        let Some(g) = self.generation(generation).filter(|g| g.stage == Stage::Serving) else { return };
        let mercy = g.policy.mercy;
        let mut there = g.workers.iter().filter(|s| s.wanted()).count() as u32;
        for slot in g.workers.iter_mut().filter(|s| s.life == Life::Cheap) {
            if there >= wanted {
                break;
            }
            slot.life = Life::Waiting { until: 0 };
            there += 1;
        }
        let mut oldest: Vec<&mut Slot> = g.workers.iter_mut().filter(|s| s.wanted()).collect();
        oldest.sort_by_key(|s| s.running().map_or(0, |r| r.since));
        for slot in oldest {
            if there <= wanted {
                break;
            }
            match &mut slot.life {
                Life::Running(running) => running.leave(Leaving::new(Reason::Cheaper, SIGHUP, now + mercy), now, out),
                Life::Waiting { .. } => slot.life = Life::Cheap,
                Life::Cheap | Life::Forking => continue,
            }
            there -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_busy_for_longer_than_the_overload_is_answered_by_a_step() {
        let mut cheaper = Cheaper::new(1, 4, 2, 3);
        let busy = Load { workers: 1, busy: 1 };
        assert_eq!([1, 2, 3, 4].map(|_| cheaper.tick(busy)), [1, 1, 1, 3]);
        let more = Load { workers: 3, busy: 3 };
        assert_eq!([1, 2, 3, 4].map(|_| cheaper.tick(more)), [3, 3, 3, 4]);
    }

    #[test]
    fn exactly_one_free_is_stable_and_more_are_retired_one_at_a_time() {
        let mut cheaper = Cheaper::new(1, 4, 1, 2);
        assert!((0..10).all(|_| cheaper.tick(Load { workers: 3, busy: 2 }) == 3));
        assert_eq!([1, 2].map(|_| cheaper.tick(Load { workers: 3, busy: 0 })), [3, 2]);
        assert!((0..10).all(|_| cheaper.tick(Load { workers: 1, busy: 0 }) == 1));
    }
}
