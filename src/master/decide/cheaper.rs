//! How many workers there should be: each algorithm is a function of its memory and of what a second's look shows.

use imperator_worker::settings::{CheaperAlgorithm, CheaperRules};
use nix::libc::SIGHUP;

use super::busyness::Cycle;
use super::generation::Stage;
use super::workers::{Leaving, Life, Reason, Slot};
use super::{Action, Instance, Ms};

/// An algorithm with its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cheaper {
    pub(super) rules: CheaperRules,
    /// `cheaper`: never fewer.
    pub(super) least: u32,
    /// `workers`: never more.
    pub(super) most: u32,
    overloaded: u32,
    idle: u32,
    cycle: Cycle,
}

/// What a look shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Load {
    /// Workers that there are or will be.
    pub workers: u32,
    pub busy: u32,
    /// Connections in the longest queue of a TCP socket.
    pub queue: u32,
    /// Bytes of all workers together; 0 unless a limit asks for it.
    pub rss: u64,
    /// Percent of the time since the last look that the average worker was busy.
    pub busyness: u32,
}

impl Cheaper {
    pub fn new(rules: CheaperRules, least: u32, most: u32) -> Self {
        Self { rules, least, most, overloaded: 0, idle: 0, cycle: Cycle::default() }
    }

    /// Whether the memory of workers counts.
    pub fn weighs(&self) -> bool {
        self.rules.rss_soft > 0 || self.rules.rss_hard > 0
    }

    /// Once a second: how many workers there should be from now on, and what the log should know.
    pub fn tick(&mut self, load: &Load) -> (u32, Option<String>) {
        let (wanted, said) = match self.rules.algorithm {
            CheaperAlgorithm::Spare => (self.spare(load), None),
            CheaperAlgorithm::Spare2 => (self.spare2(load), None),
            CheaperAlgorithm::Backlog => (self.backlog(load), None),
            CheaperAlgorithm::Busyness => self.cycle.tick(&self.rules, self.least, load),
            CheaperAlgorithm::Manual => (load.workers, None),
        };
        let wanted = wanted.clamp(self.least.min(load.workers), self.most.max(load.workers));
        (self.within_memory(load, wanted), said)
    }

    /// All busy for longer than `overload`: `step` more. More than one free for `overload`: one fewer.
    fn spare(&mut self, load: &Load) -> u32 {
        let free = load.workers.saturating_sub(load.busy);
        (self.overloaded, self.idle) = match free {
            0 => (self.overloaded + 1, 0),
            1 => (0, 0),
            _ => (0, self.idle + 1),
        };
        if self.overloaded > self.rules.overload {
            self.overloaded = 0;
            return (load.workers + self.rules.step.max(1)).min(self.most);
        }
        if self.idle >= self.rules.overload.max(1) && load.workers > self.least {
            self.idle = 0;
            return load.workers - 1;
        }
        load.workers
    }

    /// Fewer than `cheaper` free: more at once, at most `step`. More than that for `cheaper-idle` seconds: one fewer.
    fn spare2(&mut self, load: &Load) -> u32 {
        let free = load.workers.saturating_sub(load.busy);
        self.idle = if free > self.least { self.idle + 1 } else { 0 };
        if free < self.least {
            return (load.workers + (self.least - free).min(self.rules.step.max(1))).min(self.most);
        }
        if self.idle >= self.rules.idle.max(1) && load.workers > self.least {
            self.idle = 0;
            return load.workers - 1;
        }
        load.workers
    }

    /// A queue longer than `overload`: `step` more. A shorter one: one fewer.
    fn backlog(&self, load: &Load) -> u32 {
        match load.queue.cmp(&self.rules.overload) {
            std::cmp::Ordering::Greater => (load.workers + self.rules.step.max(1)).min(self.most),
            std::cmp::Ordering::Less if load.workers > self.least => load.workers - 1,
            _ => load.workers,
        }
    }

    fn within_memory(&self, load: &Load, wanted: u32) -> u32 {
        let over = |limit: u64| limit > 0 && load.rss > limit;
        if over(self.rules.rss_hard) && load.workers > self.least {
            load.workers - 1
        } else if over(self.rules.rss_soft) || over(self.rules.rss_hard) {
            wanted.min(load.workers)
        } else {
            wanted
        }
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

    fn cheaper(algorithm: CheaperAlgorithm, step: u32, overload: u32) -> Cheaper {
        Cheaper::new(CheaperRules { algorithm, step, overload, idle: 3, ..CheaperRules::default() }, 1, 4)
    }

    fn load(workers: u32, busy: u32) -> Load {
        Load { workers, busy, ..Load::default() }
    }

    fn ticks<const N: usize>(cheaper: &mut Cheaper, load: &Load) -> [u32; N] {
        [(); N].map(|()| cheaper.tick(load).0)
    }

    #[test]
    fn spare_answers_an_overload_that_lasts_by_a_step() {
        let mut spare = cheaper(CheaperAlgorithm::Spare, 2, 3);
        assert_eq!(ticks(&mut spare, &load(1, 1)), [1, 1, 1, 3]);
        assert_eq!(ticks(&mut spare, &load(3, 3)), [3, 3, 3, 4]);
    }

    #[test]
    fn spare_is_content_with_one_that_is_free_and_retires_others_one_at_a_time() {
        let mut spare = cheaper(CheaperAlgorithm::Spare, 1, 2);
        assert_eq!(ticks(&mut spare, &load(3, 2)), [3; 10]);
        assert_eq!(ticks(&mut spare, &load(3, 0)), [3, 2]);
        assert_eq!(ticks(&mut spare, &load(1, 0)), [1; 10]);
    }

    #[test]
    fn spare2_keeps_so_many_free_at_once_and_retires_slowly() {
        let mut spare2 =
            Cheaper::new(CheaperRules { algorithm: CheaperAlgorithm::Spare2, step: 2, idle: 3, ..CheaperRules::default() }, 3, 8);
        assert_eq!(ticks(&mut spare2, &load(3, 1)), [4]);
        assert_eq!(ticks(&mut spare2, &load(4, 4)), [6], "no more than a step");
        assert_eq!(ticks(&mut spare2, &load(7, 7)), [8]);
        assert_eq!(ticks(&mut spare2, &load(6, 3)), [6; 5]);
        assert_eq!(ticks(&mut spare2, &load(6, 1)), [6, 6, 5, 6, 6, 5]);
        assert_eq!(ticks(&mut spare2, &load(3, 0)), [3; 5]);
    }

    #[test]
    fn backlog_follows_the_queue() {
        let mut backlog = cheaper(CheaperAlgorithm::Backlog, 2, 5);
        let queue = |workers, queue| Load { queue, ..load(workers, workers) };
        assert_eq!(ticks(&mut backlog, &queue(1, 6)), [3]);
        assert_eq!(ticks(&mut backlog, &queue(3, 6)), [4]);
        assert_eq!(ticks(&mut backlog, &queue(4, 5)), [4; 3]);
        assert_eq!(ticks(&mut backlog, &queue(4, 4)), [3]);
        assert_eq!(ticks(&mut backlog, &queue(1, 0)), [1]);
    }

    #[test]
    fn by_hand_means_by_hand() {
        assert_eq!(ticks(&mut cheaper(CheaperAlgorithm::Manual, 1, 1), &load(2, 2)), [2; 5]);
        assert_eq!(ticks(&mut cheaper(CheaperAlgorithm::Manual, 1, 1), &load(4, 0)), [4; 5]);
    }

    #[test]
    fn memory_holds_growth_back_and_then_takes_workers() {
        let rules =
            CheaperRules { algorithm: CheaperAlgorithm::Backlog, overload: 5, rss_soft: 100, rss_hard: 200, ..CheaperRules::default() };
        let mut cheaper = Cheaper::new(rules, 1, 4);
        let at = |rss| Load { queue: 9, rss, ..load(2, 2) };
        assert_eq!([at(100), at(101), at(201)].map(|load| cheaper.tick(&load).0), [3, 2, 1]);
        assert_eq!(cheaper.tick(&Load { workers: 1, ..at(201) }).0, 1, "never below `cheaper`");
    }
}
