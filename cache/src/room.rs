//! Making room: what expired, what was used longest ago, everything.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::lru::Heap;
use crate::memory::{Cell, Counter, ShardCell, Slot, State};
use crate::outcome::{Refused, Stored};
use crate::pool::{self, Pool};
use crate::shard::Shard;
use crate::write::{Trouble, remove};
use crate::{Cache, expired};

/// How long the sweeper waits for a shard: it comes again.
const SWEEP_PATIENCE: Duration = Duration::from_millis(10);

impl Cache {
    /// Removes all items; how many.
    pub fn clear(&self, now: u64) -> Result<u64, Refused> {
        let mut removed = 0;
        for number in 0..self.memory.layout.shards as u32 {
            removed += self.clear_shard(number)?;
        }
        self.memory.counter(Counter::Earliest).store(0, Relaxed);
        self.modified(now);
        Ok(removed)
    }

    fn clear_shard(&self, number: u32) -> Result<u64, Refused> {
        let shard = Shard::lock(&self.memory, number, self.memory.patience).map_err(|_| Refused::Unavailable)?;
        let slots = match shard.items() {
            Ok(slots) => slots,
            Err(_) => {
                shard.repair().map_err(|_| Refused::Unavailable)?;
                shard.items().map_err(|_| Refused::Unavailable)?
            }
        };
        let pool = Pool::lock(&self.memory, self.memory.patience).map_err(|_| Refused::Unavailable)?;
        let spare = shard.get(ShardCell::Spare);
        shard.begin_rebuild();
        shard.set(ShardCell::Spare, spare);
        slots.iter().filter(|slot| self.memory.state(slot.id) == State::Live(number)).for_each(|slot| pool.give(slot));
        pool.set_quota(number, 0);
        shard.end_rebuild();
        Ok(slots.len() as u64)
    }

    /// Removes expired items; how many. Costs nothing as long as none can be, see [`Cache::next_expiry`]. What a process that died left half done is put right, too.
    pub fn sweep(&self, now: u64) -> u64 {
        self.revive();
        let earliest = self.memory.counter(Counter::Earliest);
        if earliest.load(Relaxed) > now {
            return 0;
        }
        earliest.store(u64::MAX, Relaxed);
        let (mut removed, mut next) = (0, u64::MAX);
        for slot in self.memory.ids().filter_map(|id| self.memory.slot(id)) {
            let State::Live(number) = self.memory.state(slot.id) else { continue };
            let expires = slot.read(Cell::Expires);
            if expires == 0 {
                continue;
            }
            if !expired(expires, now) {
                next = next.min(expires);
                continue;
            }
            match self.remove_expired(number, &slot, now) {
                Ok(true) => removed += 1,
                Ok(false) => {}
                Err(_) => next = 0,
            }
        }
        earliest.fetch_min(next, Relaxed);
        removed
    }

    /// Unix seconds before which no item expires, so that no sweep is needed; `None` if no item ever does. 0: not known, sweep at once.
    pub fn next_expiry(&self) -> Option<u64> {
        Some(self.memory.counter(Counter::Earliest).load(Relaxed)).filter(|earliest| *earliest != u64::MAX)
    }

    fn remove_expired(&self, number: u32, slot: &Slot<'_>, now: u64) -> Result<bool, Trouble> {
        if number as usize >= self.memory.layout.shards {
            return Ok(false);
        }
        let shard = Shard::lock(&self.memory, number, SWEEP_PATIENCE.min(self.memory.patience))?;
        let Some(found) = shard.locate(slot)? else { return Ok(false) };
        if !expired(found.slot.read(Cell::Expires), now) {
            return Ok(false);
        }
        remove(&shard, &found)?;
        Ok(true)
    }

    /// Does `work`, and makes room and does it again for as long as it finds the cache full and room can be made.
    pub(crate) fn with_room<T>(&self, now: u64, mut work: impl FnMut() -> Result<T, Trouble>) -> Result<(Stored, T), Refused> {
        let mut stored = Stored::default();
        let most = self.memory.layout.items.saturating_add(100);
        for _ in 0..most {
            match work() {
                Ok(done) => {
                    self.modified(now);
                    return Ok((stored, done));
                }
                Err(Trouble::Refused(refused)) => return Err(refused),
                Err(Trouble::Damaged) => return Err(Refused::Unavailable),
                Err(Trouble::Full(full)) => {
                    if !stored.was_full {
                        stored.was_full = true;
                        self.memory.counter(Counter::Full).fetch_add(1, Relaxed);
                    }
                    if !self.make_room(now, &mut stored) {
                        return Err(Refused::Full(full));
                    }
                }
            }
        }
        Err(Refused::Unavailable)
    }

    fn make_room(&self, now: u64, stored: &mut Stored) -> bool {
        if self.sweep_is_due(now) {
            self.memory.counter(Counter::Earliest).store(0, Relaxed);
            let swept = self.sweep(now);
            stored.swept += swept;
            if swept > 0 {
                return true;
            }
        }
        if self.memory.layout.lru {
            let evicted = self.evict();
            stored.evicted += u64::from(evicted);
            return evicted;
        }
        if self.definition.clear_on_full && stored.swept == 0 && !stored.cleared {
            stored.cleared = true;
            return self.clear(now).is_ok();
        }
        false
    }

    fn sweep_is_due(&self, now: u64) -> bool {
        let pause = self.definition.sweep_on_full;
        let last = self.memory.counter(Counter::SweptFull);
        let before = last.load(Relaxed);
        let due = pause > 0 && (before == 0 || before > now || now - before >= pause);
        due && last.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
    }

    /// Removes the item used longest ago; false if there is none.
    fn evict(&self) -> bool {
        for _ in 0..4 * self.memory.layout.shards + 16 {
            let Some((number, second)) = self.oldest_shard() else { return pool::items(&self.memory) < self.memory.layout.items };
            let Ok(shard) = Shard::lock(&self.memory, number, self.memory.patience) else { return false };
            match evict_from(&shard, second) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) if shard.repair().is_err() => return false,
                Err(_) => {}
            }
        }
        false
    }

    /// The shard whose oldest item may be the oldest of all, and how old those of the others may be.
    fn oldest_shard(&self) -> Option<(u32, u64)> {
        let (mut first, mut second) = (None, u64::MAX);
        for number in 0..self.memory.layout.shards as u32 {
            let oldest = self.memory.shard_cell(number, ShardCell::Oldest).load(Relaxed);
            match first {
                _ if oldest == 0 => {}
                Some((_, least)) if oldest >= least => second = second.min(oldest),
                _ => {
                    second = first.map_or(u64::MAX, |(_, least)| least);
                    first = Some((number, oldest));
                }
            }
        }
        first.map(|(number, _)| (number, second))
    }

    /// Puts right what processes that died left half done.
    pub(crate) fn revive(&self) {
        for number in 0..self.memory.layout.shards as u32 {
            if self.memory.shard_died(number) {
                let _ = Shard::lock(&self.memory, number, SWEEP_PATIENCE.min(self.memory.patience));
            }
        }
        if self.memory.pool_died() {
            let _ = Pool::lock(&self.memory, SWEEP_PATIENCE.min(self.memory.patience));
        }
    }
}

/// Removes the oldest item of a shard if no other shard can have an older one.
fn evict_from(shard: &Shard<'_>, second: u64) -> Result<bool, Trouble> {
    let Some(heap) = Heap::of(shard) else { return Ok(false) };
    let Some(slot) = heap.oldest()? else { return Ok(false) };
    if slot.read(Cell::Listed) > second {
        return Ok(false);
    }
    let found = shard.locate(&slot)?.ok_or(Trouble::Damaged)?;
    remove(shard, &found)?;
    Ok(true)
}
