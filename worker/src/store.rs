//! Where a body is that was read before the app is called (`post-buffering`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

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

    /// Goes to a position.
    pub fn seek(&mut self, position: u64) -> io::Result<()> {
        match self {
            Self::Disk(file, _) => file.seek(SeekFrom::Start(position)).map(drop),
            Self::Memory(_) | Self::Ahead(_) => Ok(()),
        }
    }

    /// Reads on from `position`, where the last read or [`Self::seek`] ended; `ahead` is what came with the head.
    pub fn read(&mut self, position: u64, ahead: &[u8], room: &mut Room<'_>) -> io::Result<usize> {
        let bytes = match self {
            Self::Disk(file, _) => return read_file(file, room),
            Self::Memory(bytes) => &bytes[..],
            Self::Ahead(length) => &ahead[..*length],
        };
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        Ok(room.put(bytes.get(at..).unwrap_or_default()))
    }
}

fn read_file(file: &mut File, room: &mut Room<'_>) -> io::Result<usize> {
    room.fill_with(FROM_DISK, |part| match file.read(part) {
        Ok(got) => (got, Ok(got)),
        Err(error) => (0, Err(error)),
    })
}
