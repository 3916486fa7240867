//! What an operation answers, and why one is refused.

use std::io;
use std::path::PathBuf;

use crate::DefinitionError;

/// An item was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// The cache was full: what made room is in the other fields.
    pub was_full: bool,
    /// Items that were given up for it (`purge_lru`).
    pub evicted: u64,
    /// Expired items that were removed for it (`sweep_on_full`).
    pub swept: u64,
    /// All items were (`clear_on_full`).
    pub cleared: bool,
}

/// An item that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Unix seconds; 0: never.
    pub expires: u64,
}

/// Where a value goes. A read that another process disturbs asks again, perhaps with another length.
pub trait Target {
    /// `length` bytes to write to; `None`: there is no room, and the read ends as a miss.
    fn room(&mut self, length: usize) -> Option<&mut [u8]>;
}

impl Target for Vec<u8> {
    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        self.resize(length, 0);
        Some(self)
    }
}

/// Which room is lacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All `items` are in use.
    Items,
    /// There are no so many consecutive free blocks.
    Blocks,
}

/// Why nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the key is there already")]
    Exists,
    #[error("no such key")]
    Absent,
    #[error("the key is empty")]
    EmptyKey,
    #[error("the value is empty")]
    EmptyValue,
    #[error("the key has {length} bytes, keysize is {limit}")]
    KeyTooLarge { length: usize, limit: u64 },
    #[error("the value has {length} bytes, the largest that fits has {limit}")]
    ValueTooLarge { length: usize, limit: u64 },
    #[error("the cache is full ({})", match .0 { Full::Items => "all items are in use", Full::Blocks => "not enough consecutive free blocks" })]
    Full(Full),
    #[error("the value is not a number (8 bytes)")]
    NotANumber,
    /// A process that holds a lock of the cache is stopped, or something scribbled over its memory.
    #[error("the cache does not answer: a process that changes it is stopped, or its memory is damaged")]
    Unavailable,
}

impl Refused {
    /// Whether this is worth a "cache is full" line (unless `ignore_full`).
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// What to do to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Math {
    Add,
    Subtract,
    Multiply,
    /// By 0 gives 0.
    Divide,
}

impl Math {
    /// Wraps silently.
    pub fn apply(self, number: i64, operand: i64) -> i64 {
        match self {
            Self::Add => number.wrapping_add(operand),
            Self::Subtract => number.wrapping_sub(operand),
            Self::Multiply => number.wrapping_mul(operand),
            Self::Divide if operand == 0 => 0,
            Self::Divide => number.wrapping_div(operand),
        }
    }
}

/// An item as the dump for another instance has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Unix seconds; 0: never.
    pub expires: u64,
}

/// Why a cache could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error("cache \"{name}\": cannot make its memory of {bytes} bytes")]
    Memory { name: String, bytes: u64, source: io::Error },
    #[error("cache store {}: cannot open", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cache store {}: another instance uses it", .path.display())]
    InUse { path: PathBuf },
    #[error("cache store {}: is no regular file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("cache store {}: is no cache store of ours (remove it, name another file, or set store_delete)", .path.display())]
    Foreign { path: PathBuf },
    #[error("cache store {}: was made for a cache of another shape ({found}; configured {wanted}): remove it, or set store_delete", .path.display())]
    Shape { path: PathBuf, found: String, wanted: String },
    #[error("cache store {}: no room for its {bytes} bytes", .path.display())]
    NoRoom { path: PathBuf, bytes: u64, source: io::Error },
    #[error("cache \"{name}\": the memory handed over was made for another definition or another version")]
    Handover { name: String },
}
