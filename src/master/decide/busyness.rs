//! The `busyness` algorithm: workers by the share of time that they work.

use imperator_worker::settings::CheaperRules;

use super::Load;

/// Its memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cycle {
    /// Seconds of this cycle, and the sum of their busyness.
    seconds: u32,
    sum: u32,
    /// Cycles below the minimum, one after the other.
    calm: u32,
    /// What those that went too soon have added to the multiplier.
    penalty: u32,
    /// Cycles since a worker went.
    since_retired: Option<u32>,
    /// Workers that the queue called for, and cycles since then.
    emergency: u32,
    since_emergency: u32,
    /// Seconds of a queue that was not empty.
    queued: u32,
}

/// What a worker's counters show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Of requests that have ended.
    pub running_micros: u64,
    pub requests: u64,
    pub busy: bool,
}

/// Percent of `elapsed` milliseconds that a worker was busy. A request that lasts longer than a look is no calm. (The numbers are the app's to write: any
/// are good.)
pub fn share(before: Option<Look>, now: Look, elapsed: u64) -> u32 {
    let Some(before) = before else { return 0 };
    if now.busy && before.busy && now.requests == before.requests {
        return 100;
    }
    let worked = now.running_micros.saturating_sub(before.running_micros);
    (worked / 10 / elapsed.max(1)).min(100) as u32
}

impl Cycle {
    /// One second; how many workers there should be, and what the log should know.
    pub(super) fn tick(&mut self, rules: &CheaperRules, least: u32, load: &Load) -> (u32, Option<String>) {
        if let Some(called) = self.queue(rules, load) {
            return called;
        }
        self.seconds += 1;
        self.sum += load.busyness.min(100);
        if self.seconds < rules.overload.max(1) {
            return (load.workers, None);
        }
        let average = self.sum / self.seconds;
        (self.seconds, self.sum) = (0, 0);
        self.since_retired = self.since_retired.map(|cycles| cycles + 1);
        self.since_emergency += u32::from(self.emergency > 0);
        let wanted = self.judge(rules, least, load.workers, average);
        let said = rules.busyness.verbose.then(|| {
            format!(
                "[busyness] {average}% of {} workers' time, {} cycles below {}%: {wanted} workers",
                load.workers, self.calm, rules.busyness.min
            )
        });
        (wanted, said)
    }

    /// What cannot wait for the end of a cycle.
    fn queue(&mut self, rules: &CheaperRules, load: &Load) -> Option<(u32, Option<String>)> {
        let b = &rules.busyness;
        self.queued = if load.queue > 0 { self.queued + 1 } else { 0 };
        let more = if b.backlog_alert > 0 && load.queue > b.backlog_alert {
            b.backlog_step.max(1)
        } else if b.backlog_nonzero > 0 && self.queued > b.backlog_nonzero {
            1
        } else {
            return None;
        };
        (self.queued, self.calm, self.since_emergency) = (0, 0, 0);
        self.emergency += more;
        Some((load.workers + more, Some(format!("[busyness] {} connections wait: {more} more workers", load.queue))))
    }

    /// At the end of a cycle.
    fn judge(&mut self, rules: &CheaperRules, least: u32, workers: u32, average: u32) -> u32 {
        let b = &rules.busyness;
        if average > b.max {
            self.calm = 0;
            // One that is needed again so soon should not have gone.
            if self.since_retired.take().is_some_and(|cycles| cycles <= b.multiplier) {
                self.penalty += b.penalty;
            }
            return workers + rules.step.max(1);
        }
        if average >= b.min {
            self.calm = 0;
            return workers;
        }
        self.calm += 1;
        let emergency = self.emergency > 0 && self.since_emergency >= b.backlog_multiplier;
        if workers > least && (emergency || self.calm > b.multiplier + self.penalty) {
            if emergency {
                self.emergency -= 1;
            } else {
                (self.penalty, self.since_retired) = (0, Some(0));
            }
            self.calm = 0;
            return workers - 1;
        }
        workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imperator_worker::settings::Busyness;

    fn rules() -> CheaperRules {
        CheaperRules { overload: 2, busyness: Busyness { multiplier: 2, penalty: 1, ..Busyness::default() }, ..CheaperRules::default() }
    }

    fn load(workers: u32, busyness: u32, queue: u32) -> Load {
        Load { workers, busyness, queue, ..Load::default() }
    }

    /// What each of so many cycles of that load says.
    fn cycles<const N: usize>(cycle: &mut Cycle, load: &Load) -> [u32; N] {
        [(); N].map(|()| {
            assert_eq!(cycle.tick(&rules(), 1, load).0, load.workers, "in the middle of a cycle");
            cycle.tick(&rules(), 1, load).0
        })
    }

    #[test]
    fn a_long_request_is_no_calm_and_odd_numbers_do_no_harm() {
        let look = |running_micros, requests, busy| Look { running_micros, requests, busy };
        assert_eq!(share(None, look(9_000_000, 5, true), 1000), 0, "nothing to compare with");
        assert_eq!(share(Some(look(0, 5, false)), look(250_000, 6, false), 1000), 25);
        assert_eq!(share(Some(look(0, 5, true)), look(0, 5, true), 1000), 100);
        assert_eq!(share(Some(look(9, 5, false)), look(u64::MAX, 6, false), 0), 100);
        assert_eq!(share(Some(look(9, 5, false)), look(0, 6, false), 1000), 0);
    }

    #[test]
    fn busy_cycles_add_and_calm_ones_take_away_after_a_while() {
        let mut cycle = Cycle::default();
        assert_eq!(cycles(&mut cycle, &load(2, 51, 0)), [3, 3]);
        assert_eq!(cycles(&mut cycle, &load(3, 50, 0)), [3; 4]);
        assert_eq!(cycles(&mut cycle, &load(3, 24, 0)), [3, 3, 2]);
        assert_eq!(cycles(&mut cycle, &load(1, 0, 0)), [1; 6]);
    }

    #[test]
    fn one_that_went_too_soon_makes_the_next_one_stay_longer() {
        let mut cycle = Cycle::default();
        assert_eq!(cycles(&mut cycle, &load(2, 0, 0)), [2, 2, 1]);
        assert_eq!(cycles(&mut cycle, &load(1, 90, 0)), [2]);
        assert_eq!(cycles(&mut cycle, &load(2, 0, 0)), [2, 2, 2, 1]);
        assert_eq!(cycles(&mut cycle, &load(3, 0, 0)), [3, 3, 2], "the penalty is paid");
    }

    #[test]
    fn a_queue_calls_for_workers_at_once_and_they_go_sooner() {
        let mut cycle = Cycle::default();
        assert_eq!(cycle.tick(&rules(), 1, &load(1, 0, 34)).0, 2);
        assert_eq!(cycles(&mut cycle, &load(2, 0, 0)), [2, 2, 1]);
        let mut long = Cycle::default();
        let calls = (0..61).filter(|_| long.tick(&rules(), 1, &load(1, 30, 1)).0 == 2).count();
        assert_eq!(calls, 1, "a queue that is never empty for a minute");
    }

    #[test]
    fn it_tells_of_itself_if_it_is_asked_to() {
        let mut rules = rules();
        rules.busyness.verbose = true;
        let mut cycle = Cycle::default();
        let said: Vec<_> = (0..2).filter_map(|_| cycle.tick(&rules, 1, &load(2, 40, 0)).1).collect();
        assert_eq!(said, ["[busyness] 40% of 2 workers' time, 0 cycles below 25%: 2 workers"]);
    }
}
