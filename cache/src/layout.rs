//! Where everything is in the segment: computed from the definition by each process for itself, never read from the segment.

use crate::Definition;

/// Changes with anything that processes or files must agree on, the hash function too.
pub(crate) const VERSION: u64 = 1;
/// Cells of a slot; those of a short key are the last of them.
pub(crate) const SLOT_CELLS: usize = 24;
/// Where a slot keeps a short key.
pub(crate) const INLINE_KEY: usize = 11;
/// The longest key that a slot keeps itself, bytes.
pub(crate) const INLINE_KEY_BYTES: usize = (SLOT_CELLS - INLINE_KEY) * 8;
/// Lines of counters that threads are spread over.
pub(crate) const STRIPES: usize = if cfg!(feature = "loom") { 1 } else { 64 };
/// The most shards: more would cost memory (each needs a slot to spare), and the search for what was used longest ago looks at all.
const MOST_SHARDS: usize = 64;
/// Items that a shard has at least, when there are several.
const SHARD_ITEMS: u64 = 16;

pub(crate) const LINE: usize = 64;
/// Each part begins on a page of its own (in the model: a line, to have few cells).
const PAGE: usize = if cfg!(feature = "loom") { LINE } else { 4096 };
/// Bytes of the counters: a line each.
pub(crate) const COUNTERS_BYTES: usize = 16 * LINE;
/// Bytes of a shard's state: its lock, and what the lock protects.
pub(crate) const SHARD_BYTES: usize = 2 * LINE;
/// Bytes of the pool's state: lock, cells, quotas.
const POOL_BYTES: usize = 2 * LINE + MOST_SHARDS * 8;

/// Offsets are in bytes from the start of the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub items: u64,
    /// Places for items: one more than `items` for each shard, so that a replaced item's successor can be written beside it.
    pub slots: u32,
    /// A power of two.
    pub shards: usize,
    /// Chains of a shard, a power of two.
    pub buckets: usize,
    pub keysize: usize,
    /// Cells that a long key may take, 0 if slots hold every key.
    pub key_cells: usize,
    pub bitmap: bool,
    pub lru: bool,
    /// As configured in a bitmap cache, else one a slot.
    pub blocks: usize,
    pub blocksize: usize,
    pub block_cells: usize,
    pub largest_value: usize,
    pub counters: usize,
    pub stripes: usize,
    pub pool: usize,
    pub shard_states: usize,
    pub states: usize,
    pub chains: usize,
    pub heaps: usize,
    pub bits: usize,
    pub slots_at: usize,
    pub keys: usize,
    pub data: usize,
    pub total: usize,
}

impl Layout {
    /// The layout for a checked definition; `None` if its size cannot be expressed.
    pub fn of(definition: &Definition) -> Option<Self> {
        let items = Some(definition.items).filter(|items| *items > 0)?;
        let most = if definition.purge_lru { MOST_SHARDS / 4 } else { MOST_SHARDS };
        let shards = usize::try_from((items / SHARD_ITEMS).max(1)).ok()?.min(most);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        let slots = u32::try_from(items.checked_add(shards as u64)?).ok().filter(|slots| *slots < u32::MAX / 2)?;
        // In the model all keys share a chain.
        let buckets = if cfg!(feature = "loom") { 1 } else { usize::try_from(items).ok()?.div_ceil(shards).next_power_of_two() };
        let keysize = usize::try_from(definition.keysize).ok()?;
        let key_cells = if keysize <= INLINE_KEY_BYTES { 0 } else { keysize.div_ceil(8) };
        let blocksize = usize::try_from(definition.blocksize).ok()?;
        let blocks = if definition.bitmap { usize::try_from(definition.blocks).ok()? } else { slots as usize };
        let mut layout = Self {
            items,
            slots,
            shards,
            buckets,
            keysize,
            key_cells,
            bitmap: definition.bitmap,
            lru: definition.purge_lru,
            blocks,
            blocksize,
            block_cells: blocksize.div_ceil(8),
            largest_value: usize::try_from(definition.largest_value()).ok()?,
            counters: 0,
            stripes: 0,
            pool: 0,
            shard_states: 0,
            states: 0,
            chains: 0,
            heaps: 0,
            bits: 0,
            slots_at: 0,
            keys: 0,
            data: 0,
            total: 0,
        };
        layout.place()?;
        Some(layout)
    }

    /// Puts the parts one after another, each on pages of its own. The first page is the header's.
    fn place(&mut self) -> Option<()> {
        let mut end = PAGE.max(2 * LINE);
        let mut part = |bytes: Option<usize>| {
            let start = end;
            end = start.checked_add(bytes?)?.checked_next_multiple_of(PAGE).filter(|end| *end < 1 << 47)?;
            Some(start)
        };
        let slots = self.slots as usize;
        self.counters = part(Some(COUNTERS_BYTES))?;
        self.stripes = part(Some(STRIPES * LINE))?;
        self.pool = part(Some(POOL_BYTES))?;
        self.shard_states = part(Some(self.shards * SHARD_BYTES))?;
        self.states = part(slots.checked_mul(4))?;
        self.chains = part(self.shards.checked_mul(self.buckets)?.checked_mul(4))?;
        self.heaps = part(if self.lru { self.shards.checked_mul(slots)?.checked_mul(4) } else { Some(0) })?;
        self.bits = part(if self.bitmap { Some(self.blocks.div_ceil(64) * 8) } else { Some(0) })?;
        self.slots_at = part(slots.checked_mul(SLOT_CELLS * 8))?;
        self.keys = part(slots.checked_mul(self.key_cells * 8))?;
        self.data = part(self.blocks.checked_mul(self.block_cells.checked_mul(8)?))?;
        self.total = end;
        Some(())
    }
}

/// Bytes that the cache takes, for the line that uWSGI prints at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// All of it. Memory is used when it is touched.
    pub total: u64,
    /// A slot with its key.
    pub key: u64,
    /// All slots with their keys.
    pub keys: u64,
    /// Values.
    pub data: u64,
    /// The map of free blocks.
    pub bitmap: u64,
}

impl From<&Layout> for Sizes {
    fn from(layout: &Layout) -> Self {
        Self {
            total: layout.total as u64,
            key: ((SLOT_CELLS + layout.key_cells) * 8) as u64,
            keys: (layout.data - layout.slots_at) as u64,
            data: (layout.total - layout.data) as u64,
            bitmap: if layout.bitmap { layout.blocks.div_ceil(8) as u64 } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(line: &str) -> Layout {
        Layout::of(&Definition::parse(line).expect(line)).expect(line)
    }

    #[test]
    fn parts_do_not_overlap() {
        let l = layout("name=x,items=1000,bitmap=1,lru=1");
        let starts =
            [l.counters, l.stripes, l.pool, l.shard_states, l.states, l.chains, l.heaps, l.bits, l.slots_at, l.keys, l.data, l.total];
        assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "{starts:?}");
        assert!(starts.iter().all(|start| start % PAGE == 0));
        assert_eq!(l.total - l.data, 1000 * 65536);
    }

    #[test]
    fn small_caches_have_one_shard_and_big_ones_many() {
        assert_eq!((layout("name=x,items=1").shards, layout("name=x,items=1").slots), (1, 2));
        assert_eq!(layout("name=x,items=100").shards, 4);
        assert_eq!((layout("name=x,items=1000000").shards, layout("name=x,items=1000000").buckets), (64, 16384));
        assert_eq!(layout("name=x,items=1000000,lru=1").shards, 16);
    }

    #[test]
    fn the_largest_definitions_are_placed_or_refused() {
        assert!(Layout::of(&Definition::parse("name=x,items=100000000").expect("valid")).is_some());
        let huge = Definition { items: u64::MAX, ..Definition::old_style(5) };
        assert_eq!(Layout::of(&huge), None);
    }
}
