//! When a vassal asks its emperor for a zerg.

use super::Ms;

/// What is too much, from the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distress {
    /// `vassal-sos`, seconds: all workers are busy, and this long between two cries. 0: busy workers are no reason.
    pub busy: u32,
    /// `vassal-sos-backlog`: connections that wait at one socket. 0: they are no reason.
    pub backlog: u32,
}

/// How it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    pub workers: u32,
    pub busy: u32,
    /// The longest queue of a TCP socket.
    pub queue: u32,
}

impl Distress {
    pub fn is_watched(self) -> bool {
        self.busy > 0 || self.backlog > 0
    }

    /// Whether to ask, `last` being when that was done last.
    pub fn asks(self, now: Pressure, last: Option<Ms>, at: Ms) -> bool {
        let all_busy = self.busy > 0 && now.workers > 0 && now.busy >= now.workers;
        let crowded = self.backlog > 0 && now.queue >= self.backlog;
        let rested = last.is_none_or(|last| at.saturating_sub(last) >= Ms::from(self.busy) * 1000);
        (all_busy || crowded) && rested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Pressure = Pressure { workers: 2, busy: 1, queue: 0 };
    const BUSY: Pressure = Pressure { busy: 2, ..CALM };
    const CROWDED: Pressure = Pressure { queue: 5, ..CALM };

    #[test]
    fn busy_workers_ask_once_in_so_many_seconds() {
        let distress = Distress { busy: 3, backlog: 0 };
        assert!(!distress.asks(CALM, None, 0) && !distress.asks(CROWDED, None, 0));
        assert!(distress.asks(BUSY, None, 0));
        assert!(!distress.asks(BUSY, Some(1000), 3999));
        assert!(distress.asks(BUSY, Some(1000), 4000));
        assert!(!distress.asks(Pressure { workers: 0, busy: 0, queue: 0 }, None, 0), "a cheap instance has no worker that is busy");
    }

    #[test]
    fn a_queue_asks_too() {
        let distress = Distress { busy: 0, backlog: 5 };
        assert!(distress.asks(CROWDED, None, 0) && !distress.asks(BUSY, None, 0));
        assert!(!distress.asks(Pressure { queue: 4, ..CALM }, None, 0));
        assert!(!Distress { busy: 0, backlog: 0 }.is_watched());
    }
}
