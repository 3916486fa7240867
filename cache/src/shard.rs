//! A shard: a part of the keys, with a lock, chains and slots of its own.

use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

use crate::shared::{AtomicU32, Busy, Held};

use crate::hash::hash;
use crate::memory::{Cell, Id, Memory, NONE, ShardCell, Slot, State, read_bytes, same_bytes};

/// Chains are a few slots long. A longer one is damaged, or a ring.
const LONGEST_CHAIN: usize = 4096;

/// The chains or lists of a shard contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A shard whose lock this thread has.
pub(crate) struct Shard<'m> {
    pub memory: &'m Memory,
    pub number: u32,
    _held: Held<'m>,
}

/// Where a key is in its chain.
#[derive(Clone, Copy)]
pub(crate) struct Found<'m> {
    pub slot: Slot<'m>,
    /// The slot before it, unless it is the first.
    before: Option<Slot<'m>>,
}

impl<'m> Shard<'m> {
    /// Takes the lock. If its last owner died, what that one left half done is put right first.
    pub fn lock(memory: &'m Memory, number: u32, patience: Duration) -> Result<Self, Busy> {
        let held = memory.lock_shard(number, patience)?;
        let died = held.owner_died();
        let shard = Self { memory, number, _held: held };
        if died || shard.get(ShardCell::Unlinked) & 1 == 1 {
            shard.repair()?;
        }
        Ok(shard)
    }

    pub fn get(&self, cell: ShardCell) -> u64 {
        self.memory.shard_cell(self.number, cell).load(Relaxed)
    }

    pub fn set(&self, cell: ShardCell, value: u64) {
        self.memory.shard_cell(self.number, cell).store(value, Relaxed);
    }

    /// Where the key is.
    pub fn find(&self, key: &[u8], hash: u64) -> Result<Option<Found<'m>>, Damaged> {
        let mut before = None;
        let mut next = self.chain(hash).load(Relaxed);
        for _ in 0..LONGEST_CHAIN {
            if next == NONE {
                return Ok(None);
            }
            let slot = self.memory.slot(next).ok_or(Damaged)?;
            if slot.read(Cell::Hash) == hash && self.has_key(&slot, key) {
                return Ok(Some(Found { slot, before }));
            }
            next = slot.read(Cell::Next) as Id;
            before = Some(slot);
        }
        Err(Damaged)
    }

    fn has_key(&self, slot: &Slot<'m>, key: &[u8]) -> bool {
        slot.key_length() == key.len() && self.memory.key_cells(slot, key.len()).is_some_and(|cells| same_bytes(cells, key))
    }

    pub fn chain(&self, hash: u64) -> &'m AtomicU32 {
        let (_, bucket) = self.memory.place(hash);
        &self.memory.chains(self.number)[bucket]
    }

    /// Puts a filled slot in front of its chain: from here on readers find it.
    pub fn link(&self, slot: &Slot<'m>) {
        let chain = self.chain(slot.read(Cell::Hash));
        slot.write(Cell::Next, u64::from(chain.load(Relaxed)));
        chain.store(slot.id, Release);
        self.memory.set_state(slot.id, State::Live(self.number));
    }

    /// Puts a filled slot in the place of another with the same key, which no reader can find then.
    pub fn replace(&self, old: &Found<'m>, slot: &Slot<'m>) {
        slot.write(Cell::Next, old.slot.read(Cell::Next));
        self.point(old, slot.id);
        self.memory.set_state(slot.id, State::Live(self.number));
        self.retire(&old.slot);
    }

    /// Takes an item out.
    pub fn unlink(&self, old: &Found<'m>) {
        self.point(old, old.slot.read(Cell::Next) as Id);
        self.retire(&old.slot);
    }

    /// Lets what pointed at `old` point at `next`.
    fn point(&self, old: &Found<'m>, next: Id) {
        match &old.before {
            Some(before) => before.cell(Cell::Next).store(u64::from(next), Release),
            None => self.chain(old.slot.read(Cell::Hash)).store(next, Release),
        }
    }

    /// An unlinked slot becomes one that the shard merely holds. Readers who are still at it notice.
    fn retire(&self, slot: &Slot<'m>) {
        self.memory.shard_cell(self.number, ShardCell::Unlinked).fetch_add(2, AcqRel);
        slot.close();
        self.memory.set_state(slot.id, State::Held(self.number));
    }

    /// The slots of all items, in no order.
    pub fn items(&self) -> Result<Vec<Slot<'m>>, Damaged> {
        let mut items = Vec::with_capacity((self.get(ShardCell::Live) as usize).min(self.memory.layout.slots as usize));
        for chain in self.memory.chains(self.number) {
            let mut next = chain.load(Relaxed);
            while next != NONE {
                let slot = self.memory.slot(next).ok_or(Damaged)?;
                items.push(slot);
                if items.len() > self.memory.layout.slots as usize {
                    return Err(Damaged);
                }
                next = slot.read(Cell::Next) as Id;
            }
        }
        Ok(items)
    }

    /// The key of a slot, if it has a possible one.
    pub fn key(&self, slot: &Slot<'m>) -> Option<Vec<u8>> {
        let length = slot.key_length();
        let mut key = vec![0; length.min(self.memory.layout.keysize)];
        read_bytes(self.memory.key_cells(slot, length)?, &mut key);
        Some(key)
    }

    /// The slot as an element of its chain, for unlinking.
    pub fn locate(&self, slot: &Slot<'m>) -> Result<Option<Found<'m>>, Damaged> {
        let key = self.key(slot).ok_or(Damaged)?;
        let hash = hash(self.memory.seed, &key);
        Ok(self.find(&key, hash)?.filter(|found| found.slot.id == slot.id))
    }
}
