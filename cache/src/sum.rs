//! Checksums of items in a store: what a machine that went down in the middle left behind is noticed when it is loaded.

use crate::memory::{Cell, Memory, Slot, read_bytes};

/// What an item's checksum covers, beside key and value.
fn facts(key_length: usize, length: usize, expires: u64, version: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, fact) in bytes.chunks_exact_mut(8).zip([key_length as u64, length as u64, expires, version]) {
        chunk.copy_from_slice(&fact.to_le_bytes());
    }
    bytes
}

/// The checksum of an item to be written.
pub(crate) fn of(key: &[u8], value: &[u8], expires: u64, version: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&facts(key.len(), value.len(), expires, version));
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// The checksum of what a slot holds; `None` if its lengths are impossible.
pub(crate) fn checksum(memory: &Memory, slot: &Slot<'_>) -> Option<u32> {
    let (key_length, length) = (slot.key_length(), usize::try_from(slot.read(Cell::Length)).ok()?);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&facts(key_length, length, slot.read(Cell::Expires), slot.read(Cell::Version)));
    for (cells, length) in [(memory.key_cells(slot, key_length)?, key_length), (memory.value_cells(slot, length)?, length)] {
        let mut bytes = [0; 4096];
        let mut left = length;
        for part in cells.chunks(bytes.len() / 8) {
            let now = left.min(bytes.len());
            read_bytes(part, &mut bytes[..now]);
            hasher.update(&bytes[..now]);
            left -= now;
        }
    }
    Some(hasher.finalize())
}
