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
    /// When the patience of the connection that waits here ends.
    deadline: u64,
    /// The heap has an entry of this turn's. It may say an earlier time than `deadline`; then it is put back when it comes up.
    queued: bool,
}

/// Waiting connections and when their patience ends, in CLOCK_MONOTONIC milliseconds.
///
/// A connection keeps its place from its first wait to its end, so that the kernel need not be told another number each time.
#[derive(Default)]
pub(crate) struct Lot {
    slots: Vec<Slot>,
    free: Vec<u32>,
    deadlines: BinaryHeap<Reverse<(u64, Ticket)>>,
}

impl Lot {
    /// Lets a connection wait, at its own place if it has one.
    pub fn park(&mut self, mut connection: Connection, deadline: u64) -> Ticket {
        let ticket = connection.place.unwrap_or_else(|| self.assign());
        connection.place = Some(ticket);
        if let Some(slot) = self.slots.get_mut(ticket.slot as usize) {
            // An entry that comes up too early is put back then; one that would come up too late is overtaken by another now.
            if !slot.queued || deadline < slot.deadline {
                self.deadlines.push(Reverse((deadline, ticket)));
            }
            (slot.waiting, slot.deadline, slot.queued) = (Some(connection), deadline, true);
        }
        ticket
    }

    /// A place that nobody has. Turns are kept below 2^31: the top bit of a ticket's number is free for other kinds of events.
    fn assign(&mut self) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        *slot = Slot { turn: (slot.turn + 1) & 0x7fff_ffff, ..Slot::default() };
        Ticket { slot: index, turn: slot.turn }
    }

    /// The connection of that place is gone for good.
    pub fn release(&mut self, ticket: Ticket) {
        if self.slots.get(ticket.slot as usize).is_some_and(|s| s.turn == ticket.turn && s.waiting.is_none()) {
            self.slots[ticket.slot as usize].turn += 1;
            self.free.push(ticket.slot);
        }
    }

    /// The connection, if it waits.
    pub fn take(&mut self, ticket: Ticket) -> Option<Connection> {
        self.slots.get_mut(ticket.slot as usize).filter(|s| s.turn == ticket.turn)?.waiting.take()
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Connection> {
        self.slots.get_mut(ticket.slot as usize).filter(|s| s.turn == ticket.turn)?.waiting.as_mut()
    }

    /// A connection whose deadline has passed at `now`.
    pub fn take_overdue(&mut self, now: u64) -> Option<Connection> {
        while self.next_deadline()? <= now {
            let Reverse((_, ticket)) = self.deadlines.pop()?;
            self.slots[ticket.slot as usize].queued = false;
            if let Some(connection) = self.take(ticket) {
                return Some(connection);
            }
        }
        None
    }

    /// The earliest deadline of a connection that waits.
    pub fn next_deadline(&mut self) -> Option<u64> {
        while let Some(Reverse((deadline, ticket))) = self.deadlines.peek().copied() {
            let slot = self.slots.get_mut(ticket.slot as usize).filter(|s| s.turn == ticket.turn);
            match slot {
                Some(slot) if slot.waiting.is_some() && slot.deadline <= deadline => return Some(deadline),
                // It began to wait anew since.
                Some(slot) if slot.waiting.is_some() => {
                    let later = slot.deadline;
                    self.deadlines.pop();
                    self.deadlines.push(Reverse((later, ticket)));
                }
                Some(slot) => {
                    slot.queued = false;
                    self.deadlines.pop();
                }
                None => {
                    self.deadlines.pop();
                }
            }
        }
        None
    }

    /// All that `wanted` says yes to.
    pub fn take_all(&mut self, wanted: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        self.slots.iter_mut().filter(|s| s.waiting.as_ref().is_some_and(&wanted)).filter_map(|s| s.waiting.take()).collect()
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
    fn a_place_is_kept_until_the_connection_is_gone() {
        let mut lot = Lot::default();
        let first = lot.park(connection(), 10);
        assert_eq!(Ticket::from_u64(first.to_u64()), first);
        let same = lot.take(first).expect("it waits");
        assert!(lot.take(first).is_none(), "in hand");
        assert_eq!(lot.park(same, 20), first);
        drop(lot.take(first));
        lot.release(first);
        let second = lot.park(connection(), 20);
        assert_eq!(first.slot, second.slot);
        assert!(lot.take(first).is_none(), "an old ticket for a place that is used again");
        lot.release(first);
        assert!(lot.get_mut(second).is_some() && lot.free.is_empty());
    }

    #[test]
    fn deadlines_come_in_order_and_only_for_those_who_wait() {
        let mut lot = Lot::default();
        let (early, late) = (lot.park(connection(), 10), lot.park(connection(), 30));
        assert_eq!(lot.next_deadline(), Some(10));
        let early = lot.take(early).expect("it waits");
        assert_eq!(lot.next_deadline(), Some(30));
        lot.park(early, 40);
        assert!(lot.take_overdue(29).is_none());
        assert!(lot.take_overdue(30).is_some() && lot.take(late).is_none());
        assert_eq!(lot.next_deadline(), Some(40));
        assert!(lot.take_overdue(40).is_some());
        assert_eq!(lot.next_deadline(), None);
    }

    #[test]
    fn a_shorter_wait_after_a_longer_one_is_not_overslept() {
        let mut lot = Lot::default();
        let ticket = lot.park(connection(), 60_000);
        let same = lot.take(ticket).expect("it waits");
        lot.park(same, 2_000);
        assert_eq!(lot.next_deadline(), Some(2_000));
        assert!(lot.take_overdue(2_000).is_some());
        assert_eq!(lot.next_deadline(), None);
    }

    #[test]
    fn the_heap_does_not_grow_with_requests() {
        let mut lot = Lot::default();
        let mut ticket = lot.park(connection(), 0);
        for n in 1..1000 {
            let same = lot.take(ticket).expect("it waits");
            ticket = lot.park(same, n);
        }
        assert_eq!((lot.deadlines.len(), lot.slots.len()), (1, 1));
    }
}
