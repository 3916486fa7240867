//! Which requests are over their time.

use super::Ms;

/// A request thread over its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// From 0.
    pub core: u32,
    /// How late this is noticed.
    pub late: Ms,
}

/// What the deadlines of one worker's cores (0: none) say at `now`: those that are over, and when to look again. `limit` is `harakiri` in
/// milliseconds (0: off): a request that starts right after this look cannot be due before that.
pub fn stuck(deadlines: impl Iterator<Item = Ms>, limit: Ms, now: Ms) -> (Vec<Stuck>, Option<Ms>) {
    let (mut over, mut next) = (vec![], (limit > 0).then_some(now + limit));
    for (core, deadline) in deadlines.enumerate().filter(|(_, d)| *d != 0) {
        if deadline <= now {
            over.push(Stuck { core: core as u32, late: now - deadline });
        } else {
            next = Some(next.map_or(deadline, |n| n.min(deadline)));
        }
    }
    (over, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_ones_are_named_and_the_next_look_is_no_earlier_than_needed() {
        assert_eq!(stuck([0, 900, 1500].into_iter(), 1000, 1000), (vec![Stuck { core: 1, late: 100 }], Some(1500)));
        assert_eq!(stuck([0, 0].into_iter(), 5000, 1000), (vec![], Some(6000)));
        assert_eq!(stuck([0, 0].into_iter(), 0, 1000), (vec![], None));
        assert_eq!(stuck([1200].into_iter(), 0, 1000), (vec![], Some(1200)));
    }
}
