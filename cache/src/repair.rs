//! Putting a shard right: after the death of who was changing it, when it contradicts itself, and when a store is loaded.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::{AcqRel, Release};

use crate::shared::{Busy, fence};

use crate::hash::hash;
use crate::lru::Heap;
use crate::memory::{Cell, Counter, Memory, NONE, ShardCell, Slot, State, read_bytes, same_bytes};
use crate::pool::Pool;
use crate::shard::Shard;
use crate::sum::checksum;

impl<'m> Shard<'m> {
    /// Makes the chains, the heap and the count anew out of the slots that say they belong to this shard; what was half done is dropped.
    #[cold]
    pub fn repair(&self) -> Result<(), Busy> {
        let pool = Pool::lock(self.memory, self.memory.patience)?;
        self.begin_rebuild();
        let mut live = 0;
        for slot in self.memory.ids().filter_map(|id| self.memory.slot(id)) {
            match self.memory.state(slot.id) {
                State::Live(shard) if shard == self.number => live += self.readopt(&pool, &slot),
                State::Held(shard) if shard == self.number => pool.give(&slot),
                _ => {}
            }
        }
        self.set(ShardCell::Live, live);
        pool.set_quota(self.number, live);
        self.memory.counter(Counter::Earliest).store(0, Relaxed);
        self.memory.counter(Counter::Repairs).fetch_add(1, Relaxed);
        self.end_rebuild();
        Ok(())
    }

    /// Readers who find nothing from here on until the end look again, or wait for the lock.
    pub fn begin_rebuild(&self) {
        let unlinked = self.memory.shard_cell(self.number, ShardCell::Unlinked);
        unlinked.fetch_or(1, AcqRel);
        fence(Release);
        self.memory.chains(self.number).iter().for_each(|chain| chain.store(NONE, Release));
        self.set(ShardCell::Spare, u64::from(NONE));
        self.set(ShardCell::Live, 0);
        if let Some(heap) = Heap::of(self) {
            heap.clear();
        }
    }

    pub fn end_rebuild(&self) {
        let unlinked = self.memory.shard_cell(self.number, ShardCell::Unlinked);
        unlinked.store((unlinked.load(Relaxed) | 1).wrapping_add(1), Release);
    }

    /// Links a slot again, unless something is wrong with it or its key is there already in a later version; the change in the number of items.
    fn readopt(&self, pool: &Pool<'m>, slot: &Slot<'m>) -> u64 {
        let Some(hash) = sound(self.memory, slot).filter(|hash| self.memory.place(*hash).0 == self.number) else {
            pool.give(slot);
            return 0;
        };
        let twin = self.key(slot).and_then(|key| self.find(&key, hash).ok().flatten());
        let version = slot.read(Cell::Version);
        self.set(ShardCell::Version, self.get(ShardCell::Version).max(version));
        // A time that no clock has reached would stay the latest for ever.
        slot.write(Cell::Used, Some(slot.read(Cell::Used)).filter(|used| *used < 1 << 62).unwrap_or(0));
        self.memory.counter(Counter::Uses).fetch_max(slot.read(Cell::Used), Relaxed);
        slot.write(Cell::Hash, hash);
        match twin {
            Some(twin) if twin.slot.read(Cell::Version) > version => {
                pool.give(slot);
                0
            }
            Some(twin) => {
                self.replace(&twin, slot);
                pool.give(&twin.slot);
                let _ = Heap::of(self).map(|heap| heap.replace(&twin.slot, slot));
                0
            }
            None => {
                self.link(slot);
                let _ = Heap::of(self).map(|heap| heap.push(slot));
                1
            }
        }
    }
}

/// The hash of the key of a slot that holds a whole item.
fn sound(memory: &Memory, slot: &Slot<'_>) -> Option<u64> {
    let (key_length, length) = (slot.key_length(), slot.read(Cell::Length) as usize);
    if slot.read(Cell::Sequence) & 1 == 1 || key_length == 0 || length == 0 {
        return None;
    }
    let key = memory.key_cells(slot, key_length)?;
    memory.value_cells(slot, length)?;
    let mut bytes = vec![0; key_length];
    read_bytes(key, &mut bytes);
    // The padding of the last cell takes part in comparisons.
    same_bytes(key, &bytes).then(|| hash(memory.seed, &bytes))
}

/// Drops what is not whole from a store that was just opened, and makes everything but the items anew; items kept, and items dropped.
pub(crate) fn restore(memory: &Memory) -> Result<(u64, u64), Busy> {
    let (mut kept, mut dropped) = (0, 0);
    for slot in memory.ids().filter_map(|id| memory.slot(id)) {
        let State::Live(_) = memory.state(slot.id) else {
            memory.set_state(slot.id, State::Free);
            continue;
        };
        let hash = sound(memory, &slot).filter(|_| checksum(memory, &slot) == Some((slot.read(Cell::Key) >> 32) as u32));
        match hash {
            Some(hash) => memory.set_state(slot.id, State::Live(memory.place(hash).0)),
            None => {
                dropped += 1;
                memory.set_state(slot.id, State::Free);
            }
        }
    }
    Pool::lock(memory, memory.patience)?.rebuild();
    for number in 0..memory.layout.shards as u32 {
        let shard = Shard::lock(memory, number, memory.patience)?;
        shard.repair()?;
        kept += shard.get(ShardCell::Live);
    }
    memory.counter(Counter::Repairs).store(0, Relaxed);
    Ok((kept, dropped))
}
