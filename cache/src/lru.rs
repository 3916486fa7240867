//! Which item of a shard was used longest ago: a heap of its slots, in order of a time of use that may be out of date.
//!
//! A reader only writes the time of use into the slot. An item's true time is never before the one it is listed by, so if the first of the heap is listed by its true time, no
//! other was used before it; if not, it is listed anew, and the next one is looked at.

use crate::shared::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::memory::{Cell, Counter, Id, Memory, ShardCell, Slot};
use crate::shard::{Damaged, Shard};

/// Notes that an item is used. Nothing is written if it was the last one used.
#[inline]
pub(crate) fn touch(memory: &Memory, slot: &Slot<'_>) {
    if !memory.layout.lru {
        return;
    }
    let uses = memory.counter(Counter::Uses);
    if slot.read(Cell::Used) != uses.load(Relaxed) {
        slot.write(Cell::Used, uses.fetch_add(1, Relaxed).wrapping_add(1));
    }
}

/// The time of use for an item to come.
pub(crate) fn tick(memory: &Memory) -> u64 {
    if memory.layout.lru { memory.counter(Counter::Uses).fetch_add(1, Relaxed).wrapping_add(1) } else { 0 }
}

/// A shard's heap; empty unless the cache has LRU. What was read out of it is checked: a wrong entry ends as [`Damaged`].
pub(crate) struct Heap<'s, 'm> {
    shard: &'s Shard<'m>,
    entries: &'m [AtomicU32],
}

impl<'s, 'm> Heap<'s, 'm> {
    /// `None` without LRU.
    pub fn of(shard: &'s Shard<'m>) -> Option<Self> {
        shard.memory.layout.lru.then(|| Self { shard, entries: shard.memory.heap(shard.number) })
    }

    fn len(&self) -> usize {
        (self.shard.get(ShardCell::HeapLength) as usize).min(self.entries.len())
    }

    fn slot(&self, index: usize) -> Result<Slot<'m>, Damaged> {
        let id = self.entries.get(index).ok_or(Damaged)?.load(Relaxed);
        self.shard.memory.slot(id).ok_or(Damaged)
    }

    fn put(&self, index: usize, slot: &Slot<'m>) {
        self.entries[index].store(slot.id, Relaxed);
        slot.write(Cell::Place, index as u64 + 1);
    }

    /// Adds a slot that was used at its own time.
    pub fn push(&self, slot: &Slot<'m>) -> Result<(), Damaged> {
        let last = self.len();
        if last == self.entries.len() {
            return Err(Damaged);
        }
        slot.write(Cell::Listed, slot.read(Cell::Used));
        self.put(last, slot);
        self.shard.set(ShardCell::HeapLength, last as u64 + 1);
        self.rise(last)?;
        self.publish()
    }

    /// Puts a slot in the place of another; it is listed as early as that one was.
    pub fn replace(&self, old: &Slot<'m>, slot: &Slot<'m>) -> Result<(), Damaged> {
        let place = self.place(old)?;
        slot.write(Cell::Listed, old.read(Cell::Listed));
        self.put(place, slot);
        Ok(())
    }

    pub fn remove(&self, slot: &Slot<'m>) -> Result<(), Damaged> {
        let place = self.place(slot)?;
        let last = self.len().checked_sub(1).ok_or(Damaged)?;
        let moved = self.slot(last)?;
        self.shard.set(ShardCell::HeapLength, last as u64);
        if place < last {
            self.put(place, &moved);
            self.rise(place)?;
            self.sink((moved.read(Cell::Place) as usize).wrapping_sub(1))?;
        }
        self.publish()
    }

    pub fn clear(&self) {
        self.shard.set(ShardCell::HeapLength, 0);
        self.shard.set(ShardCell::Oldest, 0);
    }

    /// The slot used longest ago.
    pub fn oldest(&self) -> Result<Option<Slot<'m>>, Damaged> {
        for _ in 0..=self.len() {
            if self.len() == 0 {
                break;
            }
            let first = self.slot(0)?;
            let used = first.read(Cell::Used);
            if used == first.read(Cell::Listed) {
                self.publish()?;
                return Ok(Some(first));
            }
            first.write(Cell::Listed, used);
            self.sink(0)?;
        }
        self.publish()?;
        // Others use the items meanwhile: whichever is first by now is old enough.
        if self.len() == 0 { Ok(None) } else { self.slot(0).map(Some) }
    }

    /// Tells everybody how old the shard's oldest item may be.
    fn publish(&self) -> Result<(), Damaged> {
        let oldest = if self.len() == 0 { 0 } else { self.slot(0)?.read(Cell::Listed).max(1) };
        self.shard.set(ShardCell::Oldest, oldest);
        Ok(())
    }

    fn place(&self, slot: &Slot<'m>) -> Result<usize, Damaged> {
        let place = (slot.read(Cell::Place) as usize).wrapping_sub(1);
        if place < self.len() && self.slot(place)?.id == slot.id as Id { Ok(place) } else { Err(Damaged) }
    }

    fn rise(&self, mut index: usize) -> Result<(), Damaged> {
        let slot = self.slot(index)?;
        let listed = slot.read(Cell::Listed);
        while index > 0 {
            let parent = self.slot((index - 1) / 2)?;
            if parent.read(Cell::Listed) <= listed {
                break;
            }
            self.put(index, &parent);
            index = (index - 1) / 2;
        }
        self.put(index, &slot);
        Ok(())
    }

    fn sink(&self, mut index: usize) -> Result<(), Damaged> {
        let len = self.len();
        let slot = self.slot(index)?;
        let listed = slot.read(Cell::Listed);
        while 2 * index + 1 < len {
            let (left, right) = (2 * index + 1, (2 * index + 2).min(len - 1));
            let (first, second) = (self.slot(left)?, self.slot(right)?);
            let (child, at) = if second.read(Cell::Listed) < first.read(Cell::Listed) { (second, right) } else { (first, left) };
            if listed <= child.read(Cell::Listed) {
                break;
            }
            self.put(index, &child);
            index = at;
        }
        self.put(index, &slot);
        Ok(())
    }
}
