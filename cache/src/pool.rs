//! What the shards share: free slots, free blocks, and how many items each of them has.
//!
//! Taken after a shard's lock and never the other way round. The truth is in the slots (their states and runs): when an owner of the pool died, the lists are made anew.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::shared::{AtomicU64, Busy, Held};

use crate::layout::LINE;
use crate::memory::{Cell, Id, Memory, NONE, Slot, State};
use crate::outcome::Full;

#[derive(Clone, Copy)]
#[repr(usize)]
enum PoolCell {
    /// The list of slots that were used and freed.
    Free,
    /// Slots that were never used come after this one.
    Used,
    /// The sum of the quotas.
    Items,
    /// Where the search for free blocks goes on.
    Cursor,
}

/// The pool, locked.
pub(crate) struct Pool<'m> {
    memory: &'m Memory,
    _held: Held<'m>,
}

/// The number of items, without a lock.
pub(crate) fn items(memory: &Memory) -> u64 {
    cell(memory, PoolCell::Items).load(Relaxed).min(memory.layout.items)
}

fn cell(memory: &Memory, cell: PoolCell) -> &AtomicU64 {
    &memory.segment.u64s(memory.layout.pool + LINE, LINE / 8)[cell as usize]
}

impl<'m> Pool<'m> {
    pub fn lock(memory: &'m Memory, patience: Duration) -> Result<Self, Busy> {
        let held = memory.lock(memory.layout.pool, patience)?;
        let died = held.owner_died();
        let pool = Self { memory, _held: held };
        if died {
            pool.rebuild();
        }
        Ok(pool)
    }

    fn get(&self, which: PoolCell) -> u64 {
        cell(self.memory, which).load(Relaxed)
    }

    fn set(&self, which: PoolCell, value: u64) {
        cell(self.memory, which).store(value, Relaxed);
    }

    fn quotas(&self) -> &'m [AtomicU64] {
        self.memory.segment.u64s(self.memory.layout.pool + 2 * LINE, self.memory.layout.shards)
    }

    /// Whether there may be one more item.
    pub fn has_quota(&self) -> Result<(), Full> {
        if self.get(PoolCell::Items) < self.memory.layout.items {
            return Ok(());
        }
        self.add_up();
        if self.get(PoolCell::Items) < self.memory.layout.items { Ok(()) } else { Err(Full::Items) }
    }

    /// The sum may have been scribbled over.
    fn add_up(&self) {
        self.set(PoolCell::Items, self.quotas().iter().map(|quota| quota.load(Relaxed)).fold(0, u64::wrapping_add));
    }

    /// Sets how many items a shard has.
    pub fn set_quota(&self, shard: u32, items: u64) {
        let before = self.quotas()[shard as usize].swap(items, Relaxed);
        self.set(PoolCell::Items, self.get(PoolCell::Items).wrapping_add(items).wrapping_sub(before));
    }

    pub fn quota(&self, shard: u32) -> u64 {
        self.quotas()[shard as usize].load(Relaxed)
    }

    /// Gives a shard a slot.
    pub fn take(&self, shard: u32) -> Option<Slot<'m>> {
        let id = self.pop().or_else(|| {
            self.rebuild();
            self.pop()
        })?;
        self.memory.slot(id).inspect(|slot| {
            slot.close();
            slot.write(Cell::Run, 0);
            self.memory.set_state(id, State::Held(shard));
        })
    }

    /// A free slot out of the lists; `None` if there is none, or if the lists are wrong.
    fn pop(&self) -> Option<Id> {
        let first = self.get(PoolCell::Free) as Id;
        if first != NONE {
            let slot = self.memory.slot(first).filter(|_| self.memory.state(first) == State::Free)?;
            self.set(PoolCell::Free, slot.read(Cell::Next));
            return Some(first);
        }
        let used = self.get(PoolCell::Used);
        let id = Id::try_from(used.checked_add(1)?)
            .ok()
            .filter(|id| *id <= self.memory.layout.slots && self.memory.state(*id) == State::Free)?;
        self.set(PoolCell::Used, u64::from(id));
        Some(id)
    }

    /// Takes a slot and its blocks back.
    pub fn give(&self, slot: &Slot<'m>) {
        slot.close();
        self.free_run(slot);
        slot.write(Cell::Next, self.get(PoolCell::Free));
        self.memory.set_state(slot.id, State::Free);
        self.set(PoolCell::Free, u64::from(slot.id));
    }

    /// Makes the lists anew from the states of the slots.
    #[cold]
    pub fn rebuild(&self) {
        let memory = self.memory;
        self.clear_bits();
        self.set(PoolCell::Cursor, 0);
        let last = memory.ids().rev().find(|id| memory.state(*id) != State::Free).unwrap_or(NONE);
        let mut free = NONE;
        for slot in (1..=last).rev().filter_map(|id| memory.slot(id)) {
            if memory.state(slot.id) == State::Free {
                slot.write(Cell::Next, u64::from(free));
                free = slot.id;
            } else if memory.layout.bitmap {
                self.claim(&slot);
            }
        }
        self.set(PoolCell::Free, u64::from(free));
        self.set(PoolCell::Used, u64::from(last));
        self.add_up();
    }

    /// Marks the blocks of a slot as used, unless another has one of them: then this slot loses its value.
    fn claim(&self, slot: &Slot<'m>) {
        let (first, count) = slot.run();
        let possible = first.checked_add(count).is_some_and(|end| end <= self.memory.layout.blocks);
        if possible && self.all(first, count, false) {
            self.mark(first, count, true);
        } else if count > 0 {
            slot.close();
            slot.write(Cell::Run, 0);
            slot.write(Cell::Length, 0);
        }
    }

    /// Finds room for a value and writes it down in the slot.
    pub fn allot(&self, slot: &Slot<'m>, bytes: usize) -> Result<(), Full> {
        if !self.memory.layout.bitmap {
            return Ok(());
        }
        let count = bytes.div_ceil(self.memory.layout.blocksize);
        let first = self.search(count).ok_or(Full::Blocks)?;
        slot.write(Cell::Run, first as u64 | (count as u64) << 32);
        self.mark(first, count, true);
        self.set(PoolCell::Cursor, ((first + count) % self.memory.layout.blocks) as u64);
        Ok(())
    }

    /// Frees the blocks of a slot that readers cannot validate any more.
    pub fn free_run(&self, slot: &Slot<'m>) {
        let (first, count) = slot.run();
        slot.write(Cell::Run, 0);
        if first.checked_add(count).is_some_and(|end| end <= self.memory.layout.blocks) {
            self.mark(first, count, false);
        }
    }

    /// The first run of `count` free blocks at or after the cursor, else from the start.
    fn search(&self, count: usize) -> Option<usize> {
        let blocks = self.memory.layout.blocks;
        let cursor = usize::try_from(self.get(PoolCell::Cursor)).unwrap_or(0) % blocks;
        self.search_between(cursor, blocks, count).or_else(|| self.search_between(0, (cursor + count).min(blocks), count))
    }

    fn search_between(&self, start: usize, end: usize, count: usize) -> Option<usize> {
        let bits = self.bits();
        let (mut first, mut at) = (start, start);
        while at < end {
            let word = bits.get(at / 64)?.load(Relaxed) >> (at % 64);
            let in_word = (64 - at % 64).min(end - at);
            let free = (word.trailing_zeros() as usize).min(in_word);
            at += free;
            if at - first >= count {
                return Some(first);
            }
            if free < in_word {
                at += ((word >> free).trailing_ones() as usize).min(end - at).max(1);
                first = at;
            }
        }
        None
    }

    fn bits(&self) -> &'m [AtomicU64] {
        let words = if self.memory.layout.bitmap { self.memory.layout.blocks.div_ceil(64) } else { 0 };
        self.memory.segment.u64s(self.memory.layout.bits, words)
    }

    fn clear_bits(&self) {
        self.bits().iter().for_each(|word| word.store(0, Relaxed));
    }

    fn mark(&self, first: usize, count: usize, used: bool) {
        for (index, mask) in masks(first, count) {
            if let Some(word) = self.bits().get(index) {
                let bits = word.load(Relaxed);
                word.store(if used { bits | mask } else { bits & !mask }, Relaxed);
            }
        }
    }

    fn all(&self, first: usize, count: usize, used: bool) -> bool {
        masks(first, count)
            .all(|(index, mask)| self.bits().get(index).is_some_and(|word| word.load(Relaxed) & mask == if used { mask } else { 0 }))
    }
}

/// The words that a run of bits lies in, with the bits of each.
fn masks(first: usize, count: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = first + count;
    (first / 64..end.div_ceil(64)).map(move |index| {
        let (from, to) = (first.max(index * 64) - index * 64, end.min(index * 64 + 64) - index * 64);
        (index, if to - from == 64 { u64::MAX } else { ((1 << (to - from)) - 1) << from })
    })
}
