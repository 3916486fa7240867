//! Where a body is that was read before the app is called.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use imperator_sys::room::Room;

/// Bytes that one read asks the disk for.
const FROM_DISK: usize = 256 * 1024;

pub(crate) enum Store {
    /// All of it came with the head.
    Ahead(usize),
    Memory(Vec<u8>),
    /// An unlinked temporary file, and its size.
    Disk(File, u64),
}

impl Store {
    pub fn size(&self) -> u64 {
        match self {
            Self::Ahead(length) => *length as u64,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, size) => *size,
        }
    }

    /// Adds bytes; what reaches `limit` goes on disk.
    pub fn push(&mut self, more: &[u8], limit: u64) -> io::Result<()> {
        if let Self::Memory(bytes) = self {
            if ((bytes.len() + more.len()) as u64) < limit {
                bytes.extend_from_slice(more);
                return Ok(());
            }
            // Without a name, in TMPDIR.
            let mut file = tempfile::tempfile()?;
            file.write_all(bytes)?;
            let size = bytes.len() as u64;
            *self = Self::Disk(file, size);
        }
        if let Self::Disk(file, size) = self {
            file.write_all(more)?;
            *size += more.len() as u64;
        }
        Ok(())
    }

    /// Reads from `position` on; `ahead` is what came with the head.
    pub fn read(&self, position: u64, ahead: &[u8], room: &mut Room<'_>) -> io::Result<usize> {
        let bytes = match self {
            Self::Disk(file, size) => return read_file(file, position, size.saturating_sub(position), room),
            Self::Memory(bytes) => &bytes[..],
            Self::Ahead(length) => &ahead[..*length],
        };
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        Ok(room.put(bytes.get(at..).unwrap_or_default()))
    }
}

/// `left`: what belongs to the body.
fn read_file(file: &File, position: u64, left: u64, room: &mut Room<'_>) -> io::Result<usize> {
    let most = usize::try_from(left).unwrap_or(FROM_DISK).min(FROM_DISK);
    room.fill_with(most, |part| match file.read_at(part, position) {
        Ok(got) => (got, Ok(got)),
        Err(error) => (0, Err(error)),
    })
}
