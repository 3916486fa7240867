//! Which requests are over their time, and whether their worker deals with that itself.

use imperator_worker::watchdog::PATIENCE_MS;

use super::Ms;

/// What a worker that deals with it may be late.
const SLACK: Ms = 1000;

/// A request thread over its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// From 0.
    pub core: u32,
    /// When its time was over, which tells it from other requests of that core.
    pub deadline: Ms,
}

/// What the deadlines of one worker's cores (0: none) say at `now`: those that are over, and when to look again. `limit` is `harakiri` in
/// milliseconds (0: off): a request that starts right after this look cannot be due before that.
pub fn stuck(deadlines: impl Iterator<Item = Ms>, limit: Ms, now: Ms) -> (Vec<Stuck>, Option<Ms>) {
    let (mut over, mut next) = (vec![], (limit > 0).then_some(now + limit));
    for (core, deadline) in deadlines.enumerate().filter(|(_, d)| *d != 0) {
        if deadline <= now {
            over.push(Stuck { core: core as u32, deadline });
        } else {
            next = Some(next.map_or(deadline, |n| n.min(deadline)));
        }
    }
    (over, next)
}

/// Whether a worker with a request that is `late` has to be killed: by then it should have interrupted the request, or have ended when the
/// requests beside it were done, for which they have `mercy`. `watched`: it has a thread that does so; else there is nothing to wait for.
pub fn hopeless(late: Ms, watched: bool, neighbours: bool, mercy: Ms) -> bool {
    let itself = if watched { PATIENCE_MS + SLACK } else { 0 };
    let beside = if neighbours { mercy } else { 0 };
    late >= itself + beside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_time_to_help_itself_and_its_neighbours() {
        assert!(!hopeless(1999, true, false, 5000) && hopeless(2000, true, false, 5000));
        assert!(!hopeless(6999, true, true, 5000) && hopeless(7000, true, true, 5000));
        assert!(hopeless(0, false, false, 5000) && !hopeless(4999, false, true, 5000));
    }

    #[test]
    fn due_ones_are_named_and_the_next_look_is_no_earlier_than_needed() {
        assert_eq!(stuck([0, 900, 1500].into_iter(), 1000, 1000), (vec![Stuck { core: 1, deadline: 900 }], Some(1500)));
        assert_eq!(stuck([0, 0].into_iter(), 5000, 1000), (vec![], Some(6000)));
        assert_eq!(stuck([0, 0].into_iter(), 0, 1000), (vec![], None));
        assert_eq!(stuck([1200].into_iter(), 0, 1000), (vec![], Some(1200)));
    }
}
