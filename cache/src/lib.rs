//! The cache: items in memory that master, workers and whoever else has its descriptor share.
//!
//! # The segment
//!
//! One memfd, or the store file, of a size that the definition determines (`layout.rs` places the parts):
//!
//! ```text
//! header    magic, version, shape, hash seed, checksum       written once, at creation
//! counters  full, last change, earliest expiry, clock of uses
//! stripes   hits and misses, a line for each of 64 groups of threads
//! pool      lock; free slots, items in all, items of each shard
//! shards    lock; version of the chains, spare slot, heap
//! states    for each slot: free, held by shard n, item of shard n
//! chains    for each shard: hash buckets, the first slot of each
//! heaps     for each shard, with LRU: its slots, the one used longest ago first
//! bitmap    used blocks, in a bitmap cache
//! slots     sequence, hash, expiry, lengths, next in the chain, short key
//! keys      long keys
//! data      blocks
//! ```
//!
//! # The protocol
//!
//! A key belongs to one shard. A writer takes the shard's lock, writes the item into a slot that no chain leads to, and puts it into the chain with one store; a replaced slot comes out with
//! the same store. A reader takes no lock and writes nothing but its counters (and, with LRU, the time of use): it follows the chain, copies, and then looks whether the slot's sequence is still
//! the same; if it found nothing, whether anything was taken out of the shard meanwhile. Slots, blocks and the number of items are the pool's, whose lock is taken after the shard's and only for a
//! moment, so that `items` and the largest value are exact for the cache as a whole.
//!
//! **Death.** The locks are robust futexes: the kernel marks those of a thread that ends, and the next owner makes the shard's chains, heap and count anew from the states of the slots. So it does
//! not matter at which instruction somebody was killed: the old item is there or the new one, never half of one. A holder that is *stopped* keeps writers of its shard waiting for [`WRITE_PATIENCE`]
//! (then they are refused), but no reader.
//!
//! **Trust.** Everything read from the segment is checked against the layout of this process before it is used, and all loops are bounded: arbitrary bytes in it cause wrong answers, nothing worse.
//!
//! No function here looks at a clock to decide about items: `now` and `expires` are unix seconds.

#![forbid(unsafe_code)]

mod definition;
mod hash;
mod iterate;
mod layout;
mod lru;
mod memory;
mod outcome;
mod pool;
mod read;
mod repair;
mod room;
mod shard;
mod shared;
mod stats;
mod store;
mod sum;
#[cfg(not(feature = "loom"))]
mod sync;
mod write;

use std::os::fd::OwnedFd;
#[cfg(not(feature = "loom"))]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub use definition::{Definition, DefinitionError, HashKind};
pub use layout::Sizes;
pub use outcome::{Full, Hit, Item, Math, Refused, StoreError, Stored, Target};
pub use stats::Stats;
pub use store::{Damage, Restored};

use memory::Memory;

/// How long a writer waits for a lock whose holder lives, before it is refused.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// A cache, mapped into this process. All operations may be called by any thread of any process at any time.
pub struct Cache {
    definition: Definition,
    memory: Memory,
    restored: Option<Restored>,
}

impl Cache {
    /// Makes a cache: an anonymous one, or the one in the definition's store, with the items that are in it. The master does this once, before anybody is forked.
    pub fn create(definition: &Definition) -> Result<Self, StoreError> {
        let definition = definition.clone().checked()?;
        let (memory, restored) = store::create(&definition)?;
        Ok(Self { definition, memory, restored })
    }

    /// Maps a cache that another process (or this one before an exec) made for a definition of the same shape, see [`Definition::same_shape`].
    pub fn open(fd: OwnedFd, definition: &Definition) -> Result<Self, StoreError> {
        let definition = definition.clone().checked()?;
        let memory = store::open(fd, &definition)?;
        Ok(Self { definition, memory, restored: None })
    }

    /// The same with another time that operations of this process wait for a lock whose holder lives, instead of [`WRITE_PATIENCE`].
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.memory.patience = patience;
        self
    }

    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Bytes that it takes.
    pub fn sizes(&self) -> Sizes {
        Sizes::from(&self.memory.layout)
    }

    /// What [`Cache::create`] found in the store file; `None` without one, or if it was new.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Whether this cache, with all its items, can serve for another definition: for a reload.
    pub fn fits(&self, definition: &Definition) -> bool {
        definition.clone().checked().is_ok_and(|definition| self.definition.same_shape(&definition))
    }
}

#[cfg(not(feature = "loom"))]
/// The descriptor to hand to other processes (close-on-exec). It keeps the lock of a store file as well.
impl AsFd for Cache {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.segment.as_fd()
    }
}

/// Whether an item with this expiry (0: never) is gone.
pub(crate) fn expired(expires: u64, now: u64) -> bool {
    expires != 0 && expires <= now
}
