//! The segment's parts by name. Every id, length and run that was read from the segment is checked here against this process's own layout, once, before it is used.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::shared::{AtomicU32, AtomicU64, Busy, Held, LockCells, Segment, fence, robust};

use crate::hash::word;
use crate::layout::{COUNTERS_BYTES, INLINE_KEY, INLINE_KEY_BYTES, LINE, Layout, SHARD_BYTES, SLOT_CELLS, STRIPES};

/// A slot's number, from 1; 0 is none.
pub(crate) type Id = u32;
pub(crate) const NONE: Id = 0;

pub(crate) struct Memory {
    pub segment: Segment,
    pub layout: Layout,
    pub seed: u64,
    /// How long a writer of this process waits for a lock.
    pub patience: Duration,
}

/// A slot: cells that describe an item.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'m> {
    pub id: Id,
    pub cells: &'m [AtomicU64; SLOT_CELLS],
}

/// A slot's cells. From 11 on: a short key.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Cell {
    /// Odd while the slot holds no item that may be read; changes with every item.
    Sequence,
    Hash,
    /// Unix seconds, 0: never.
    Expires,
    /// Bytes of the value.
    Length,
    /// Blocks in a bitmap cache: the first, and how many << 32.
    Run,
    /// The next slot in the chain, or in the pool's list of free ones.
    Next,
    /// Bytes of the key, and the checksum << 32.
    Key,
    /// When it was used last, on the cache's clock of uses.
    Used,
    /// The shard's count of writes: the later of two copies of one key is the valid one.
    Version,
    /// The time of use by which the heap sorts it.
    Listed,
    /// Its place in the heap, from 1.
    Place,
}

impl<'m> Slot<'m> {
    #[inline]
    pub fn cell(&self, cell: Cell) -> &'m AtomicU64 {
        &self.cells[cell as usize]
    }

    #[inline]
    pub fn read(&self, cell: Cell) -> u64 {
        self.cell(cell).load(Relaxed)
    }

    #[inline]
    pub fn write(&self, cell: Cell, value: u64) {
        self.cell(cell).store(value, Relaxed);
    }

    #[inline]
    pub fn key_length(&self) -> usize {
        self.read(Cell::Key) as u32 as usize
    }

    /// Makes the slot unreadable, before anything in it changes.
    #[inline]
    pub fn close(&self) {
        self.write(Cell::Sequence, self.read(Cell::Sequence) | 1);
        fence(Release);
    }

    /// Makes it readable again, as another item.
    #[inline]
    pub fn open(&self) {
        self.cell(Cell::Sequence).store((self.read(Cell::Sequence) | 1).wrapping_add(1), Release);
    }

    /// First block and number of blocks.
    pub fn run(&self) -> (usize, usize) {
        let run = self.read(Cell::Run);
        (run as u32 as usize, (run >> 32) as usize)
    }
}

/// What a slot is used for; the truth from which everything else is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// A shard has it for an item to come, or of the past.
    Held(u32),
    /// It is an item of this shard.
    Live(u32),
}

impl State {
    fn decode(word: u32) -> Self {
        match (word & 3, word >> 2) {
            (1, shard) => Self::Held(shard),
            (2, shard) => Self::Live(shard),
            _ => Self::Free,
        }
    }

    fn encode(self) -> u32 {
        match self {
            Self::Free => 0,
            Self::Held(shard) => shard << 2 | 1,
            Self::Live(shard) => shard << 2 | 2,
        }
    }
}

/// Counters of the whole cache, each on a line of its own.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Counter {
    /// Times that it was found full.
    Full,
    /// Unix seconds.
    LastModified,
    /// No item expires before this (unix seconds); 0: unknown, `u64::MAX`: none does.
    Earliest,
    /// The clock of uses, for LRU.
    Uses,
    /// When a full cache was swept last, unix seconds.
    SweptFull,
    /// Shards that were put right.
    Repairs,
}

/// Counters that are spread over threads.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Spread {
    Hits,
    Misses,
}

impl Memory {
    /// The slot of an id that was read from the segment.
    #[inline]
    pub fn slot(&self, id: Id) -> Option<Slot<'_>> {
        if id == NONE || id > self.layout.slots {
            return None;
        }
        let offset = self.layout.slots_at + (id as usize - 1) * SLOT_CELLS * 8;
        Some(Slot { id, cells: self.segment.u64s(offset, SLOT_CELLS).first_chunk()? })
    }

    pub fn state(&self, id: Id) -> State {
        State::decode(self.state_cell(id).map_or(0, |cell| cell.load(Relaxed)))
    }

    pub fn set_state(&self, id: Id, state: State) {
        if let Some(cell) = self.state_cell(id) {
            cell.store(state.encode(), Release);
        }
    }

    fn state_cell(&self, id: Id) -> Option<&AtomicU32> {
        self.segment.u32s(self.layout.states, self.layout.slots as usize).get((id as usize).wrapping_sub(1))
    }

    /// Every slot's id.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = Id> + use<> {
        1..=self.layout.slots
    }

    /// Where the key of the slot is, if `length` is one that a key can have.
    #[inline]
    pub fn key_cells<'m>(&'m self, slot: &Slot<'m>, length: usize) -> Option<&'m [AtomicU64]> {
        if length <= INLINE_KEY_BYTES.min(self.layout.keysize) {
            return slot.cells.get(INLINE_KEY..INLINE_KEY + length.div_ceil(8));
        }
        if length > self.layout.keysize {
            return None;
        }
        let offset = self.layout.keys + (slot.id as usize - 1) * self.layout.key_cells * 8;
        Some(self.segment.u64s(offset, length.div_ceil(8)))
    }

    /// Where the value of the slot is, if its length and its blocks are possible.
    #[inline]
    pub fn value_cells(&self, slot: &Slot<'_>, length: usize) -> Option<&[AtomicU64]> {
        if length > self.layout.largest_value {
            return None;
        }
        let first = if self.layout.bitmap {
            let (first, count) = slot.run();
            if first.checked_add(count)? > self.layout.blocks || length > count * self.layout.blocksize {
                return None;
            }
            first
        } else {
            slot.id as usize - 1
        };
        Some(self.segment.u64s(self.layout.data + first * self.layout.block_cells * 8, length.div_ceil(8)))
    }

    #[inline]
    pub fn counter(&self, counter: Counter) -> &AtomicU64 {
        &self.segment.u64s(self.layout.counters, COUNTERS_BYTES / 8)[counter as usize * 8]
    }

    /// Counts in the calling thread's line.
    #[inline]
    pub fn count(&self, counter: Spread) {
        let stripe = robust::thread_id() as usize % STRIPES;
        self.stripes()[stripe * 8 + counter as usize].fetch_add(1, Relaxed);
    }

    pub fn counted(&self, counter: Spread) -> u64 {
        self.stripes().chunks(8).map(|line| line[counter as usize].load(Relaxed)).fold(0, u64::wrapping_add)
    }

    fn stripes(&self) -> &[AtomicU64] {
        self.segment.u64s(self.layout.stripes, STRIPES * 8)
    }

    /// The shard and the chain in it that a hash belongs to.
    #[inline]
    pub fn place(&self, hash: u64) -> (u32, usize) {
        let shard = (hash >> 40) as usize & (self.layout.shards - 1);
        (shard as u32, hash as usize & (self.layout.buckets - 1))
    }

    /// The first id of each chain of a shard of this process's own reckoning.
    #[inline]
    pub fn chains(&self, shard: u32) -> &[AtomicU32] {
        self.segment.u32s(self.layout.chains + shard as usize * self.layout.buckets * 4, self.layout.buckets)
    }

    pub fn heap(&self, shard: u32) -> &[AtomicU32] {
        let slots = self.layout.slots as usize;
        self.segment.u32s(self.layout.heaps + shard as usize * slots * 4, slots)
    }

    #[inline]
    pub fn shard_cell(&self, shard: u32, cell: ShardCell) -> &AtomicU64 {
        &self.segment.u64s(self.layout.shard_states + shard as usize * SHARD_BYTES + LINE, LINE / 8)[cell as usize]
    }

    pub fn lock_shard(&self, shard: u32, patience: Duration) -> Result<Held<'_>, Busy> {
        self.lock(self.layout.shard_states + shard as usize * SHARD_BYTES, patience)
    }

    pub fn shard_died(&self, shard: u32) -> bool {
        self.died(self.layout.shard_states + shard as usize * SHARD_BYTES)
    }

    pub fn pool_died(&self) -> bool {
        self.died(self.layout.pool)
    }

    fn died(&self, offset: usize) -> bool {
        self.segment.u32s(offset, LINE / 4).first_chunk().is_some_and(robust::owner_died)
    }

    pub fn lock(&self, offset: usize, patience: Duration) -> Result<Held<'_>, Busy> {
        let cells: &LockCells = self.segment.u32s(offset, LINE / 4).first_chunk().ok_or(Busy)?;
        robust::lock(cells, patience)
    }
}

/// What a shard's lock protects, beside its chains and slots.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum ShardCell {
    /// Counts what was taken out of chains, in twos; odd while they are being rebuilt. Readers who found nothing look whether it changed.
    Unlinked,
    /// A slot that it keeps for the next write, or none.
    Spare,
    /// Its items.
    Live,
    /// Its writes.
    Version,
    /// Slots in its heap.
    HeapLength,
    /// No item of it was used before this time, on the clock of uses; 0: it has none.
    Oldest,
}

/// Copies bytes into cells, the last one padded with zeros.
#[inline]
pub(crate) fn write_bytes(cells: &[AtomicU64], bytes: &[u8]) {
    for (cell, chunk) in cells.iter().zip(bytes.chunks(8)) {
        cell.store(word(chunk), Relaxed);
    }
}

/// Copies as many bytes as `bytes` has out of cells.
#[inline]
pub(crate) fn read_bytes(cells: &[AtomicU64], bytes: &mut [u8]) {
    let mut chunks = bytes.chunks_exact_mut(8);
    let mut cells = cells.iter();
    for (chunk, cell) in (&mut chunks).zip(&mut cells) {
        chunk.copy_from_slice(&cell.load(Relaxed).to_le_bytes());
    }
    let rest = chunks.into_remainder();
    if let Some(cell) = cells.next().filter(|_| !rest.is_empty()) {
        rest.copy_from_slice(&cell.load(Relaxed).to_le_bytes()[..rest.len()]);
    }
}

#[inline]
pub(crate) fn same_bytes(cells: &[AtomicU64], bytes: &[u8]) -> bool {
    cells.len() == bytes.len().div_ceil(8) && cells.iter().zip(bytes.chunks(8)).all(|(cell, chunk)| cell.load(Relaxed) == word(chunk))
}

/// Nothing that was read before is newer than what is read after.
#[inline]
pub(crate) fn settled(cell: &AtomicU64, before: u64) -> bool {
    fence(Acquire);
    cell.load(Relaxed) == before
}
