//! Where connections wait that no thread works on: half-read requests, idle keep-alive connections, closed ones whose
//! peers still send.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::connection::Connection;

/// Names a waiting connection: its place, and how often that was used (so that a late event finds nobody instead of a stranger).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    slot: u32,
    turn: u32,
}

impl Ticket {
    pub fn to_u64(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.slot)
    }

    pub fn from_u64(number: u64) -> Self {
        Self { slot: number as u32, turn: (number >> 32) as u32 }
    }
}

#[derive(Default)]
struct Slot {
    turn: u32,
    waiting: Option<Connection>,
}

/// Waiting connections and when their patience ends, in CLOCK_MONOTONIC milliseconds.
#[derive(Default)]
pub(crate) struct Lot {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Entries of connections that have left are skipped when they come up.
    deadlines: BinaryHeap<Reverse<(u64, Ticket)>>,
}

impl Lot {
    /// Turns are kept below 2^31: the top bit of a ticket's number is free for other kinds of events.
    pub fn park(&mut self, connection: Connection, deadline: u64) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.turn = (slot.turn + 1) & 0x7fff_ffff;
        slot.waiting = Some(connection);
        let ticket = Ticket { slot: index, turn: slot.turn };
        self.deadlines.push(Reverse((deadline, ticket)));
        self.sweep();
        ticket
    }

    /// The connection, if it still waits.
    pub fn take(&mut self, ticket: Ticket) -> Option<Connection> {
        let slot = self.slots.get_mut(ticket.slot as usize).filter(|s| s.turn == ticket.turn)?;
        let connection = slot.waiting.take()?;
        self.free.push(ticket.slot);
        Some(connection)
    }

    pub fn get(&self, ticket: Ticket) -> Option<&Connection> {
        self.slots.get(ticket.slot as usize).filter(|s| s.turn == ticket.turn)?.waiting.as_ref()
    }

    /// A connection whose deadline has passed at `now`.
    pub fn take_overdue(&mut self, now: u64) -> Option<Connection> {
        while self.next_deadline()? <= now {
            let Reverse((_, ticket)) = self.deadlines.pop()?;
            if let Some(connection) = self.take(ticket) {
                return Some(connection);
            }
        }
        None
    }

    /// The earliest deadline of a connection that still waits.
    pub fn next_deadline(&mut self) -> Option<u64> {
        while let Some(Reverse((deadline, ticket))) = self.deadlines.peek().copied() {
            if self.get(ticket).is_some() {
                return Some(deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// All that `wanted` says yes to.
    pub fn take_all(&mut self, wanted: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        let tickets: Vec<_> = self.slots.iter().enumerate().map(|(slot, s)| Ticket { slot: slot as u32, turn: s.turn }).collect();
        let chosen: Vec<_> = tickets.into_iter().filter(|t| self.get(*t).is_some_and(&wanted)).collect();
        chosen.into_iter().filter_map(|t| self.take(t)).collect()
    }

    /// Keeps the heap in proportion: a busy keep-alive connection leaves an entry behind at every request.
    fn sweep(&mut self) {
        let waiting = self.slots.len() - self.free.len();
        if self.deadlines.len() > 64 + 4 * waiting {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|Reverse((_, ticket))| self.get(*ticket).is_some());
            self.deadlines = deadlines;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Protocol;

    fn connection() -> Connection {
        let (socket, _) = std::os::unix::net::UnixStream::pair().expect("pair");
        Connection::new(socket.into(), 0, Protocol::Uwsgi)
    }

    #[test]
    fn a_ticket_is_good_once() {
        let mut lot = Lot::default();
        let first = lot.park(connection(), 10);
        assert_eq!(Ticket::from_u64(first.to_u64()), first);
        assert!(lot.take(first).is_some() && lot.take(first).is_none());
        let second = lot.park(connection(), 20);
        assert_eq!(first.slot, second.slot);
        assert!(lot.take(first).is_none(), "an old ticket for a place that is used again");
        assert!(lot.get(second).is_some());
    }

    #[test]
    fn deadlines_come_in_order_and_only_for_those_who_wait() {
        let mut lot = Lot::default();
        let (early, late) = (lot.park(connection(), 10), lot.park(connection(), 30));
        assert_eq!(lot.next_deadline(), Some(10));
        lot.take(early);
        assert_eq!(lot.next_deadline(), Some(30));
        assert!(lot.take_overdue(29).is_none());
        assert!(lot.take_overdue(30).is_some() && lot.take(late).is_none());
        assert_eq!(lot.next_deadline(), None);
    }

    #[test]
    fn the_heap_does_not_grow_with_requests() {
        let mut lot = Lot::default();
        for n in 0..10_000 {
            let ticket = lot.park(connection(), n);
            lot.take(ticket);
        }
        assert!(lot.deadlines.len() < 100 && lot.slots.len() == 1);
    }
}
