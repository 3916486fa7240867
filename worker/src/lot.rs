//! Where connections wait that no thread works on: half-read requests, idle keep-alive connections, closed ones whose
//! peers still send.

use std::collections::BTreeSet;

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
    /// When this place's entry comes up, if it has one: at `deadline`, or earlier, and then it is put off.
    queued: Option<u64>,
}

/// Waiting connections and when their patience ends, in CLOCK_MONOTONIC milliseconds.
///
/// A connection keeps its place from its first wait to its end, so that the kernel need not be told another number each time.
#[derive(Default)]
pub(crate) struct Lot {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// When to look at which place: one entry a place at most, so that a kept connection costs one whatever its requests.
    deadlines: BTreeSet<(u64, u32)>,
}

impl Lot {
    /// Lets a connection wait, at its own place if it has one.
    pub fn park(&mut self, mut connection: Connection, deadline: u64) -> Ticket {
        let ticket = connection.place.unwrap_or_else(|| self.assign());
        connection.place = Some(ticket);
        if let Some(slot) = self.slots.get_mut(ticket.slot as usize) {
            (slot.waiting, slot.deadline) = (Some(connection), deadline);
            // An entry that comes up too early is put off then; only one that would come up too late has to be moved.
            if slot.queued.is_none_or(|due| deadline < due) {
                self.queue(ticket.slot, Some(deadline));
            }
        }
        ticket
    }

    /// Has the place looked at then, and at no other time.
    fn queue(&mut self, index: u32, due: Option<u64>) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if let Some(before) = std::mem::replace(&mut slot.queued, due) {
            self.deadlines.remove(&(before, index));
        }
        self.deadlines.extend(due.map(|due| (due, index)));
    }

    /// A place that nobody has. Turns are kept below 2^31: the top bit of a ticket's number is free for other kinds of events.
    fn assign(&mut self) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        // The entry of whoever was there before stays: it can only come up too early.
        *slot = Slot { turn: (slot.turn + 1) & 0x7fff_ffff, queued: slot.queued, ..Slot::default() };
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
        let (_, index) = self.first().filter(|(due, _)| *due <= now)?;
        self.queue(index, None);
        self.slots.get_mut(index as usize)?.waiting.take()
    }

    /// The earliest deadline of a connection that waits.
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.first().map(|(due, _)| due)
    }

    /// The first entry whose connection waits until just then. Those before it are put off to when theirs do, or dropped.
    fn first(&mut self) -> Option<(u64, u32)> {
        loop {
            let (due, index) = *self.deadlines.first()?;
            let slot = self.slots.get(index as usize)?;
            if slot.waiting.is_some() && slot.deadline <= due {
                return Some((due, index));
            }
            self.queue(index, slot.waiting.is_some().then_some(slot.deadline));
        }
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
    fn a_connection_has_one_entry_however_often_it_waits() {
        let mut lot = Lot::default();
        let mut ticket = lot.park(connection(), 60_000);
        for n in 1..100_000 {
            let same = lot.take(ticket).expect("it waits");
            // For the next request, for the rest of one, and so on; and time passes.
            ticket = lot.park(same, n + if n % 2 == 0 { 60_000 } else { 2_000 });
            assert!(lot.take_overdue(n).is_none(), "the deadline is later");
            assert_eq!((lot.deadlines.len(), lot.slots.len()), (1, 1));
        }
        assert_eq!(lot.next_deadline(), Some(101_999));
        assert!(lot.take_overdue(101_998).is_none() && lot.take_overdue(101_999).is_some());
        assert_eq!((lot.next_deadline(), lot.deadlines.len()), (None, 0));
    }

    #[test]
    fn connections_that_come_and_go_leave_no_entries_behind() {
        let mut lot = Lot::default();
        for n in 0..1000 {
            let ticket = lot.park(connection(), 4_000 + n);
            drop(lot.take(ticket));
            lot.release(ticket);
        }
        assert_eq!((lot.deadlines.len(), lot.slots.len()), (1, 1));
        let last = lot.park(connection(), 9_000);
        assert_eq!(lot.next_deadline(), Some(9_000), "not that of the one before");
        assert!(lot.take_overdue(8_999).is_none() && lot.take_overdue(9_000).is_some() && lot.take(last).is_none());
    }

    #[test]
    fn each_of_many_deadlines_comes_up_at_its_time() {
        let mut lot = Lot::default();
        let tickets: Vec<_> = (0..50).map(|n| lot.park(connection(), 1_000 + n)).collect();
        // Put off, brought forward, or left as it is.
        for (n, ticket) in (0..).zip(tickets) {
            let deadline = [5_000 + n, 100 + n, 1_000 + n][n as usize % 3];
            let same = lot.take(ticket).expect("it waits");
            lot.park(same, deadline);
        }
        let mut expected: Vec<u64> = (0..50).map(|n| [5_000 + n, 100 + n, 1_000 + n][n as usize % 3]).collect();
        expected.sort_unstable();
        for deadline in expected {
            assert_eq!(lot.next_deadline(), Some(deadline));
            assert!(lot.take_overdue(deadline - 1).is_none() && lot.take_overdue(deadline).is_some());
        }
        assert!(lot.next_deadline().is_none() && lot.deadlines.is_empty());
    }
}
