//! Reading: without a lock, and without writing to anything that other processes read.
//!
//! A reader copies, then looks whether the slot's sequence is still what it was. If it found nothing, it looks whether something was taken out of the shard's chains meanwhile,
//! which could have led it astray. After some tries in vain it takes the lock like a writer, but only for a moment: who holds it may be stopped.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use crate::hash::hash;
use crate::lru;
use crate::memory::{Cell, Id, Memory, NONE, ShardCell, Slot, Spread, read_bytes, same_bytes, settled};
use crate::outcome::{Hit, Target};
use crate::shard::Shard;
use crate::shared::spin_loop;
use crate::{Cache, expired};

/// Tries without the lock.
const TRIES: u32 = if cfg!(feature = "loom") { 2 } else { 100 };
/// Slots that a reader looks at in one chain; longer ones are damaged.
const LONGEST_WALK: usize = 4096;
/// How long a reader waits for a lock.
const READ_PATIENCE: Duration = Duration::from_millis(20);

/// Something changed under the reader's hands.
struct Again;

impl Cache {
    /// Copies the value of `key` into `value`, which becomes as long as it. Counts as a hit or a miss, and as use. `value` is of no meaning after a miss.
    #[inline]
    pub fn get(&self, key: &[u8], now: u64, value: &mut impl Target) -> Option<Hit> {
        let found = self.look(key, now, |memory, slot, length| {
            copy(memory, slot, length, value)?;
            Some(Hit { expires: slot.read(Cell::Expires) })
        });
        let hit = found.map(|(slot, hit)| {
            lru::touch(&self.memory, &slot);
            hit
        });
        self.memory.count(if hit.is_some() { Spread::Hits } else { Spread::Misses });
        hit
    }

    /// When an item expires (unix seconds, 0: never). Counts as nothing.
    pub fn expiry(&self, key: &[u8], now: u64) -> Option<u64> {
        self.look(key, now, |_, slot, _| Some(slot.read(Cell::Expires))).map(|(_, expires)| expires)
    }

    /// Whether there is an item. Counts as nothing.
    pub fn exists(&self, key: &[u8], now: u64) -> bool {
        self.look(key, now, |_, _, _| Some(())).is_some()
    }

    /// The number under `key`; 0 if it is absent or not 8 bytes long. Counts as a hit or a miss.
    pub fn number(&self, key: &[u8], now: u64) -> i64 {
        let read = |memory: &Memory, slot: &Slot<'_>, length: usize| {
            let cells = memory.value_cells(slot, length)?;
            Some(if length == 8 { cells.first()?.load(Relaxed) as i64 } else { 0 })
        };
        let found = self.look(key, now, read);
        self.memory.count(if found.is_some() { Spread::Hits } else { Spread::Misses });
        found.map_or(0, |(_, number)| number)
    }

    /// The value without counting, for dumps.
    pub(crate) fn peek(&self, key: &[u8], now: u64, value: &mut Vec<u8>) -> Option<Hit> {
        self.look(key, now, |memory, slot, length| {
            copy(memory, slot, length, value)?;
            Some(Hit { expires: slot.read(Cell::Expires) })
        })
        .map(|(_, hit)| hit)
    }

    /// Finds the key and lets `read` read its slot, several times perhaps, until nothing changed meanwhile.
    #[inline]
    fn look<T>(&self, key: &[u8], now: u64, mut read: impl FnMut(&Memory, &Slot<'_>, usize) -> Option<T>) -> Option<(Slot<'_>, T)> {
        if key.is_empty() || key.len() > self.memory.layout.keysize {
            return None;
        }
        let hash = hash(self.memory.seed, key);
        for _ in 0..TRIES {
            if let Ok(found) = self.walk(key, hash, now, &mut read) {
                return found;
            }
            spin_loop();
        }
        self.look_locked(key, hash, now, read)
    }

    fn walk<T>(
        &self,
        key: &[u8],
        hash: u64,
        now: u64,
        read: &mut impl FnMut(&Memory, &Slot<'_>, usize) -> Option<T>,
    ) -> Result<Option<(Slot<'_>, T)>, Again> {
        let memory = &self.memory;
        let (shard, bucket) = memory.place(hash);
        let unlinked = memory.shard_cell(shard, ShardCell::Unlinked);
        let before = unlinked.load(Acquire);
        let mut next = memory.chains(shard)[bucket].load(Acquire);
        for _ in 0..LONGEST_WALK {
            let Some(slot) = memory.slot(next) else { break };
            let sequence = slot.cell(Cell::Sequence).load(Acquire);
            if slot.read(Cell::Hash) == hash
                && slot.key_length() == key.len()
                && memory.key_cells(&slot, key.len()).is_some_and(|k| same_bytes(k, key))
            {
                if sequence & 1 == 1 {
                    return Err(Again);
                }
                let gone = expired(slot.read(Cell::Expires), now);
                let found = if gone { None } else { read(memory, &slot, slot.read(Cell::Length) as usize) };
                return if settled(slot.cell(Cell::Sequence), sequence) { Ok(found.map(|found| (slot, found))) } else { Err(Again) };
            }
            next = slot.cell(Cell::Next).load(Acquire) as Id;
        }
        if next == NONE && before & 1 == 0 && settled(unlinked, before) { Ok(None) } else { Err(Again) }
    }

    #[cold]
    fn look_locked<T>(
        &self,
        key: &[u8],
        hash: u64,
        now: u64,
        mut read: impl FnMut(&Memory, &Slot<'_>, usize) -> Option<T>,
    ) -> Option<(Slot<'_>, T)> {
        let shard = Shard::lock(&self.memory, self.memory.place(hash).0, READ_PATIENCE.min(self.memory.patience)).ok()?;
        let slot = shard.find(key, hash).ok()??.slot;
        if expired(slot.read(Cell::Expires), now) {
            return None;
        }
        let found = read(&self.memory, &slot, slot.read(Cell::Length) as usize)?;
        Some((slot, found))
    }
}

/// Copies a value; `None` if the slot describes no possible one.
#[inline]
fn copy(memory: &Memory, slot: &Slot<'_>, length: usize, value: &mut impl Target) -> Option<()> {
    let cells = memory.value_cells(slot, length)?;
    read_bytes(cells, value.room(length)?);
    Some(())
}
