//! All keys, all items.

use crate::memory::Cell;
use crate::outcome::{Item, Refused};
use crate::write::Trouble;
use crate::{Cache, expired};

impl Cache {
    /// The keys of all items, in no order. Each shard's as they are at one moment.
    pub fn keys(&self, now: u64) -> Result<Vec<Vec<u8>>, Refused> {
        let mut keys = Vec::new();
        for number in 0..self.memory.layout.shards as u32 {
            let found = self.in_numbered_shard(number, |shard| {
                let live = shard.items()?.into_iter().filter(|slot| !expired(slot.read(Cell::Expires), now));
                Ok(live.filter_map(|slot| shard.key(&slot)).collect::<Vec<_>>())
            });
            match found {
                Ok(mut found) => keys.append(&mut found),
                Err(Trouble::Refused(refused)) => return Err(refused),
                Err(_) => return Err(Refused::Unavailable),
            }
        }
        Ok(keys)
    }

    /// Calls `each` with every item, in no order: an item that is there all the time comes exactly once, with a value that it has at some moment of the call. Counts as no use. No lock
    /// is held while `each` runs.
    pub fn for_each(&self, now: u64, mut each: impl FnMut(Item)) -> Result<(), Refused> {
        for key in self.keys(now)? {
            let mut value = Vec::new();
            if let Some(hit) = self.peek(&key, now, &mut value) {
                each(Item { key, value, expires: hit.expires });
            }
        }
        Ok(())
    }
}
