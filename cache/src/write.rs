//! Writing. A value is written into a slot that no reader can find, and put in the place of the old one with a single store: whoever is killed at any instruction leaves the old
//! value or the new one.

use std::sync::atomic::Ordering::Relaxed;

use crate::shared::Busy;

use crate::hash::hash;
use crate::lru::{self, Heap};
use crate::memory::{Cell, Counter, NONE, ShardCell, Slot, State, write_bytes};
use crate::outcome::{Full, Math, Refused, Stored};
use crate::pool::Pool;
use crate::shard::{Damaged, Found, Shard};
use crate::{Cache, expired, sum};

/// Why a write did not happen under the lock.
pub(crate) enum Trouble {
    Full(Full),
    Damaged,
    Refused(Refused),
}

impl From<Damaged> for Trouble {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl From<Busy> for Trouble {
    fn from(_: Busy) -> Self {
        Self::Refused(Refused::Unavailable)
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What to store.
struct New<'a> {
    key: &'a [u8],
    hash: u64,
    value: &'a [u8],
    expires: u64,
}

impl Cache {
    /// Stores an item whose key is not there. `expires` is in unix seconds, 0: never.
    pub fn set(&self, key: &[u8], value: &[u8], expires: u64, now: u64) -> Result<Stored, Refused> {
        self.put(key, value, expires, now, false)
    }

    /// Stores an item, in the place of the old one if there is one.
    pub fn update(&self, key: &[u8], value: &[u8], expires: u64, now: u64) -> Result<Stored, Refused> {
        self.put(key, value, expires, now, true)
    }

    fn put(&self, key: &[u8], value: &[u8], expires: u64, now: u64, replace: bool) -> Result<Stored, Refused> {
        self.check_key(key)?;
        if value.is_empty() {
            return Err(Refused::EmptyValue);
        }
        if value.len() > self.memory.layout.largest_value {
            return Err(Refused::ValueTooLarge { length: value.len(), limit: self.memory.layout.largest_value as u64 });
        }
        let new = New { key, hash: hash(self.memory.seed, key), value, expires };
        let stored = self.with_room(now, || {
            self.in_shard(new.hash, |shard| {
                let found = shard.find(new.key, new.hash)?;
                if !replace && found.is_some_and(|found| !expired(found.slot.read(Cell::Expires), now)) {
                    return Err(Refused::Exists.into());
                }
                self.write(shard, found, &new)
            })
        });
        stored.map(|(stored, ())| stored)
    }

    /// Removes an item. An expired one is absent.
    pub fn delete(&self, key: &[u8], now: u64) -> Result<(), Refused> {
        self.check_key(key)?;
        let hash = hash(self.memory.seed, key);
        let deleted = self.in_shard(hash, |shard| {
            let found = shard.find(key, hash)?.ok_or(Refused::Absent)?;
            let gone = expired(found.slot.read(Cell::Expires), now);
            remove(shard, &found)?;
            if gone { Err(Refused::Absent.into()) } else { Ok(()) }
        });
        match deleted {
            Ok(()) => {
                self.modified(now);
                Ok(())
            }
            Err(Trouble::Refused(refused)) => Err(refused),
            Err(_) => Err(Refused::Unavailable),
        }
    }

    /// Changes a number, starting from the definition's `math_initial` with `expires` if the key is absent; the new number. The expiry of an item that is there is left alone.
    pub fn math(&self, key: &[u8], math: Math, operand: i64, expires: u64, now: u64) -> Result<i64, Refused> {
        self.check_key(key)?;
        if self.memory.layout.largest_value < 8 {
            return Err(Refused::ValueTooLarge { length: 8, limit: self.memory.layout.largest_value as u64 });
        }
        let hash = hash(self.memory.seed, key);
        self.with_room(now, || self.in_shard(hash, |shard| self.math_locked(shard, key, hash, math, operand, expires, now)))
            .map(|(_, number)| number)
    }

    #[allow(clippy::too_many_arguments)]
    fn math_locked(
        &self,
        shard: &Shard<'_>,
        key: &[u8],
        hash: u64,
        math: Math,
        operand: i64,
        expires: u64,
        now: u64,
    ) -> Result<i64, Trouble> {
        let found = shard.find(key, hash)?;
        let Some(old) = found.filter(|found| !expired(found.slot.read(Cell::Expires), now)) else {
            let number = math.apply(self.definition.math_initial, operand);
            self.write(shard, found, &New { key, hash, value: &number.to_le_bytes(), expires })?;
            return Ok(number);
        };
        if old.slot.read(Cell::Length) != 8 {
            return Err(Refused::NotANumber.into());
        }
        let cell = self.memory.value_cells(&old.slot, 8).and_then(<[_]>::first).ok_or(Damaged)?;
        let number = math.apply(cell.load(Relaxed) as i64, operand);
        if self.checksums() {
            let expires = old.slot.read(Cell::Expires);
            self.write(shard, found, &New { key, hash, value: &number.to_le_bytes(), expires })?;
        } else {
            cell.store(number as u64, Relaxed);
            lru::touch(&self.memory, &old.slot);
        }
        Ok(number)
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refused> {
        match key.len() {
            0 => Err(Refused::EmptyKey),
            length if length > self.memory.layout.keysize => Err(Refused::KeyTooLarge { length, limit: self.memory.layout.keysize as u64 }),
            _ => Ok(()),
        }
    }

    /// Does something with the lock of the shard of `hash`. A shard that turns out to be damaged is repaired, and the work done again.
    fn in_shard<T>(&self, hash: u64, work: impl FnMut(&Shard<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.in_numbered_shard(self.memory.place(hash).0, work)
    }

    pub(crate) fn in_numbered_shard<T>(&self, number: u32, mut work: impl FnMut(&Shard<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let shard = Shard::lock(&self.memory, number, self.memory.patience)?;
        match work(&shard) {
            Err(Trouble::Damaged) => {
                shard.repair()?;
                work(&shard)
            }
            done => done,
        }
    }

    /// Writes the item into a slot beside the old one, then puts it in its place.
    fn write(&self, shard: &Shard<'_>, old: Option<Found<'_>>, new: &New<'_>) -> Result<(), Trouble> {
        if let Some(old) = &old {
            lru::touch(&self.memory, &old.slot);
        }
        let slot = prepare(shard, old.is_none(), new.value.len())?;
        self.fill(shard, &slot, new)?;
        match old {
            Some(old) => {
                shard.replace(&old, &slot);
                Heap::of(shard).map_or(Ok(()), |heap| heap.replace(&old.slot, &slot))?;
                keep_spare(shard, &old.slot)?;
            }
            None => {
                shard.link(&slot);
                shard.set(ShardCell::Live, shard.get(ShardCell::Live).wrapping_add(1));
                Heap::of(shard).map_or(Ok(()), |heap| heap.push(&slot))?;
            }
        }
        if new.expires != 0 {
            self.memory.counter(Counter::Earliest).fetch_min(new.expires, Relaxed);
        }
        Ok(())
    }

    fn fill(&self, shard: &Shard<'_>, slot: &Slot<'_>, new: &New<'_>) -> Result<(), Damaged> {
        let version = shard.get(ShardCell::Version).wrapping_add(1);
        shard.set(ShardCell::Version, version);
        let sum = if self.checksums() { sum::of(new.key, new.value, new.expires, version) } else { 0 };
        slot.close();
        slot.write(Cell::Hash, new.hash);
        slot.write(Cell::Expires, new.expires);
        slot.write(Cell::Length, new.value.len() as u64);
        slot.write(Cell::Key, new.key.len() as u64 | u64::from(sum) << 32);
        slot.write(Cell::Version, version);
        slot.write(Cell::Used, lru::tick(&self.memory));
        write_bytes(self.memory.key_cells(slot, new.key.len()).ok_or(Damaged)?, new.key);
        write_bytes(self.memory.value_cells(slot, new.value.len()).ok_or(Damaged)?, new.value);
        slot.open();
        Ok(())
    }

    pub(crate) fn modified(&self, now: u64) {
        if self.definition.lastmod {
            self.memory.counter(Counter::LastModified).store(now, Relaxed);
        }
    }

    fn checksums(&self) -> bool {
        self.definition.store.is_some()
    }
}

/// A slot for a value of so many bytes, held by the shard.
fn prepare<'m>(shard: &Shard<'m>, another: bool, bytes: usize) -> Result<Slot<'m>, Trouble> {
    let memory = shard.memory;
    let spare = memory.slot(shard.get(ShardCell::Spare) as u32).filter(|slot| memory.state(slot.id) == State::Held(shard.number));
    if let (Some(spare), false, false) = (spare, another, memory.layout.bitmap) {
        shard.set(ShardCell::Spare, u64::from(NONE));
        return Ok(spare);
    }
    let pool = Pool::lock(memory, memory.patience)?;
    if another {
        pool.has_quota().map_err(Trouble::Full)?;
    }
    let slot = match spare {
        Some(spare) => spare,
        None => pool.take(shard.number).ok_or(Trouble::Damaged)?,
    };
    shard.set(ShardCell::Spare, u64::from(slot.id));
    pool.allot(&slot, bytes).map_err(Trouble::Full)?;
    if another {
        pool.set_quota(shard.number, pool.quota(shard.number).wrapping_add(1));
    }
    shard.set(ShardCell::Spare, u64::from(NONE));
    Ok(slot)
}

/// What a replaced item leaves is for the shard's next write.
fn keep_spare(shard: &Shard<'_>, slot: &Slot<'_>) -> Result<(), Trouble> {
    let taken = shard.get(ShardCell::Spare) != u64::from(NONE);
    if taken || shard.memory.layout.bitmap {
        let pool = Pool::lock(shard.memory, shard.memory.patience)?;
        if taken {
            pool.give(slot);
            return Ok(());
        }
        pool.free_run(slot);
    }
    shard.set(ShardCell::Spare, u64::from(slot.id));
    Ok(())
}

/// Takes an item out and gives its slot back.
pub(crate) fn remove(shard: &Shard<'_>, found: &Found<'_>) -> Result<(), Trouble> {
    shard.unlink(found);
    shard.set(ShardCell::Live, shard.get(ShardCell::Live).wrapping_sub(1));
    Heap::of(shard).map_or(Ok(()), |heap| heap.remove(&found.slot))?;
    let pool = Pool::lock(shard.memory, shard.memory.patience)?;
    pool.give(&found.slot);
    pool.set_quota(shard.number, pool.quota(shard.number).saturating_sub(1));
    Ok(())
}
