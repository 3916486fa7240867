//! Which of the workers takes a connection that is kept for more than one request: the one that holds the fewest of them.
//!
//! The kernel wakes one worker for a new connection, the first in the listener's queue that waits for events, and always the same one if
//! nobody changes the queue. A connection of one request only goes wherever a worker is free first, which is what one wants. But a kept one
//! stays: a worker that took all of them would serve all their requests, and its neighbours none. So for listeners of such connections:
//!
//! - a worker takes one connection at a time, and goes to the end of the queue unless all the others still hold more than it does;
//! - one that is woken although another holds fewer stands aside for a moment, so that the other one, which may be on its way, gets it;
//! - one that stood aside in vain takes that connection, and stands aside the more rarely the more often it was in vain: whoever holds fewer is
//!   kept busy.
//!
//! A worker that leaves a response to its offload engine is free at once, and would be the first again: so it goes to the end of the queue, too, and
//! downloads are shared out over the engines.

/// Milliseconds that a worker stands aside.
pub(crate) const ASIDE_MS: u64 = 1;
/// Milliseconds after standing aside in which a connection that is still there means that nobody else came for it.
const IN_VAIN_MS: u64 = 5;
/// Two to this power is how many connections at most are taken between two times of standing aside.
const MOST_DOUBLINGS: u32 = 8;

/// Another worker, as the scoreboard shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub accepting: bool,
    /// Kept connections that it holds.
    pub connections: u64,
}

/// How a worker that holds `mine` compares with those that accept, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// All the others hold more, or there are no others.
    Least,
    /// Some other one holds as many, none fewer.
    Even,
    /// Some other one holds fewer.
    More,
}

impl Share {
    pub fn of(mine: u64, peers: impl IntoIterator<Item = Peer>) -> Self {
        match peers.into_iter().filter(|peer| peer.accepting).map(|peer| peer.connections).min() {
            Some(fewest) if fewest < mine => Self::More,
            Some(fewest) if fewest == mine => Self::Even,
            _ => Self::Least,
        }
    }
}

/// What a worker does about a connection that is there to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    StandAside,
}

/// What a worker remembers of its own standing aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stance {
    #[default]
    Open,
    /// It stood aside until then (CLOCK_MONOTONIC milliseconds), after so many times in vain.
    Back { since: u64, vain: u32 },
    /// It takes so many more.
    Insists { left: u32, vain: u32 },
}

impl Stance {
    /// For a connection that is there at `now`.
    pub fn decide(&mut self, share: Share, now: u64) -> Verdict {
        let (next, verdict) = match *self {
            _ if share != Share::More => (Self::Open, Verdict::Take),
            Self::Insists { left, vain } if left > 0 => (Self::Insists { left: left - 1, vain }, Verdict::Take),
            Self::Back { since, vain } if now < since + IN_VAIN_MS => {
                (Self::Insists { left: (1 << vain) - 1, vain: (vain + 1).min(MOST_DOUBLINGS) }, Verdict::Take)
            }
            Self::Insists { vain, .. } => (Self::Back { since: now + ASIDE_MS, vain }, Verdict::StandAside),
            Self::Open | Self::Back { .. } => (Self::Back { since: now + ASIDE_MS, vain: 0 }, Verdict::StandAside),
        };
        *self = next;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(connections: u64) -> Peer {
        Peer { accepting: true, connections }
    }

    #[test]
    fn only_those_count_that_accept() {
        let gone = Peer { accepting: false, connections: 0 };
        assert_eq!(Share::of(3, []), Share::Least);
        assert_eq!(Share::of(3, [gone, peer(4)]), Share::Least);
        assert_eq!(Share::of(3, [gone, peer(4), peer(3)]), Share::Even);
        assert_eq!(Share::of(3, [peer(9), peer(2)]), Share::More);
        assert_eq!(Share::of(0, [peer(0)]), Share::Even);
    }

    #[test]
    fn whoever_has_more_stands_aside_and_ever_more_rarely_if_it_is_in_vain() {
        let (mut stance, mut now) = (Stance::Open, 10);
        assert_eq!(stance.decide(Share::Even, now), Verdict::Take);
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
            assert_eq!(stance.decide(Share::More, now), Verdict::StandAside);
            now += ASIDE_MS;
            for _ in 0..expected {
                assert_eq!(stance.decide(Share::More, now), Verdict::Take, "nobody came");
            }
        }
        assert_eq!(stance.decide(Share::More, now), Verdict::StandAside);
        assert_eq!(stance.decide(Share::More, now + 50), Verdict::StandAside, "another one took the last");
        assert_eq!(stance.decide(Share::More, now + 51), Verdict::Take);
        assert_eq!(stance.decide(Share::More, now + 51), Verdict::StandAside, "as at first");
        assert_eq!(stance.decide(Share::Least, now + 52), Verdict::Take);
    }

    /// Connections come one by one or in bursts, to workers of which any number is busy: the shares stay even.
    #[test]
    fn workers_that_are_free_at_times_end_up_with_even_shares() {
        for workers in [2, 3, 8] {
            let (mut held, mut stances) = (vec![0u64; workers], vec![Stance::Open; workers]);
            let mut now = 0;
            for n in 0..64 * workers as u64 {
                // The kernel always finds the same one first, the others a moment later.
                let first = (n as usize / 7) % workers;
                let taker = (0..).find_map(|step: usize| {
                    let worker = (first + step) % workers;
                    let share = Share::of(held[worker], (0..workers).filter(|w| *w != worker).map(|w| peer(held[w])));
                    now += u64::from(step > 0 && step % workers == 0) * ASIDE_MS;
                    (stances[worker].decide(share, now) == Verdict::Take).then_some(worker)
                });
                held[taker.expect("somebody takes it")] += 1;
                now += 10;
            }
            let (least, most) = (held.iter().min().expect("workers"), held.iter().max().expect("workers"));
            assert!(most - least <= 1, "{held:?}");
        }
    }
}
