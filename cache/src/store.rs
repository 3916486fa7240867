//! Where a cache's memory comes from: a memfd, or the store file with what it held before.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::shared::{AtomicU64, Segment, lock_file};

use crate::layout::{Layout, VERSION};
use crate::memory::{Counter, Memory};
use crate::outcome::StoreError;
use crate::{Definition, DefinitionError, WRITE_PATIENCE, repair};

const MAGIC: u64 = u64::from_le_bytes(*b"IMPCACHE");
/// Words of the header: magic, version, shape (6), seed, checksum.
const HEADER: usize = 10;
const SEED: usize = 8;
/// The processes of an instance that was killed are gone within this time, and their lock with them.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What was in the store file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Items that are there again.
    pub items: u64,
    /// Items that were not whole (the machine went down while they were written) and were dropped.
    pub dropped: u64,
    /// The file was damaged, and is kept under another name.
    pub set_aside: Option<Damage>,
}

/// A store file that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub kept_as: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

pub(crate) fn create(definition: &Definition) -> Result<(Memory, Option<Restored>), StoreError> {
    if definition.items == 0 {
        return Err(DefinitionError::NoItems { name: definition.name.clone() }.into());
    }
    let layout = Layout::of(definition).ok_or_else(|| DefinitionError::TooBig { name: definition.name.clone() })?;
    match &definition.store {
        Some(path) => StoreFile { path, definition, layout: &layout }.open(),
        None => Ok((anonymous(definition, layout)?, None)),
    }
}

/// Maps what another process made.
pub(crate) fn open(fd: OwnedFd, definition: &Definition) -> Result<Memory, StoreError> {
    let handover = || StoreError::Handover { name: definition.name.clone() };
    let layout = Layout::of(definition).ok_or_else(handover)?;
    let segment = Segment::map(fd, layout.total).map_err(|_| handover())?;
    let mut header = [0; HEADER];
    header.iter_mut().zip(segment.u64s(0, HEADER)).for_each(|(word, cell)| *word = cell.load(Relaxed));
    match judge(&header, layout.total as u64, &layout) {
        Verdict::Fits { seed } => Ok(Memory { segment, layout, seed, patience: WRITE_PATIENCE }),
        _ => Err(handover()),
    }
}

fn anonymous(definition: &Definition, layout: Layout) -> Result<Memory, StoreError> {
    let failed = |source| StoreError::Memory { name: definition.name.clone(), bytes: layout.total as u64, source };
    let segment = Segment::memfd("imperator-cache", layout.total).map_err(failed)?;
    let seed = random();
    header(&layout, seed).iter().zip(segment.u64s(0, HEADER)).for_each(|(word, cell)| cell.store(*word, Relaxed));
    let memory = Memory { segment, layout, seed, patience: WRITE_PATIENCE };
    memory.counter(Counter::Earliest).store(u64::MAX, Relaxed);
    Ok(memory)
}

/// A number that nobody outside can guess.
fn random() -> u64 {
    if cfg!(feature = "loom") {
        return 1; // the model does the same again and again
    }
    std::hash::RandomState::new().build_hasher().finish()
}

fn header(layout: &Layout, seed: u64) -> [u64; HEADER] {
    let mut words = [0; HEADER];
    words[0] = MAGIC;
    words[1] = VERSION;
    words[2..SEED].copy_from_slice(&shape(layout));
    words[SEED] = seed;
    words[HEADER - 1] = header_sum(&words);
    words
}

fn shape(layout: &Layout) -> [u64; 6] {
    let l = layout;
    [l.items, l.blocks as u64, l.blocksize as u64, l.keysize as u64, u64::from(l.bitmap), u64::from(l.lru)]
}

fn header_sum(words: &[u64; HEADER]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    words[..HEADER - 1].iter().for_each(|word| hasher.update(&word.to_le_bytes()));
    u64::from(hasher.finalize())
}

fn describe(shape: &[u64]) -> String {
    match shape {
        [items, blocks, blocksize, keysize, bitmap, lru] => {
            let flag = |name, on: &u64| if *on == 0 { String::new() } else { format!(" {name}") };
            format!(
                "items={items} blocks={blocks} blocksize={blocksize} keysize={keysize}{}{}",
                flag("bitmap", bitmap),
                flag("purge_lru", lru)
            )
        }
        _ => String::new(),
    }
}

/// What a header says about the memory behind it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits {
        seed: u64,
    },
    /// All zeros: whoever made it did not come to the end.
    Unfinished,
    Foreign,
    OtherShape {
        found: String,
    },
    Damaged {
        why: String,
    },
}

fn judge(words: &[u64; HEADER], bytes: u64, layout: &Layout) -> Verdict {
    if words.iter().all(|word| *word == 0) && bytes == layout.total as u64 {
        return Verdict::Unfinished;
    }
    if words[0] != MAGIC {
        return Verdict::Foreign;
    }
    if words[1] != VERSION {
        return Verdict::OtherShape { found: format!("layout version {}", words[1]) };
    }
    if words[HEADER - 1] != header_sum(words) {
        return Verdict::Damaged { why: "the checksum of its header is wrong".into() };
    }
    if words[2..SEED] != shape(layout) {
        return Verdict::OtherShape { found: describe(&words[2..SEED]) };
    }
    if bytes != layout.total as u64 {
        return Verdict::Damaged { why: format!("it has {bytes} bytes instead of {}", layout.total) };
    }
    Verdict::Fits { seed: words[SEED] }
}

/// The store file of a definition.
struct StoreFile<'a> {
    path: &'a Path,
    definition: &'a Definition,
    layout: &'a Layout,
}

impl StoreFile<'_> {
    /// Opens or makes the file. What stands in the way is put aside or removed, and then a new one made.
    fn open(&self) -> Result<(Memory, Option<Restored>), StoreError> {
        let mut set_aside = None;
        for _ in 0..3 {
            let file = self.locked()?;
            let bytes = file.metadata().map_err(|source| self.failed(source))?.len();
            let verdict = if bytes == 0 { Verdict::Unfinished } else { judge(&self.header(&file), bytes, self.layout) };
            match verdict {
                Verdict::Fits { seed } => return self.restored(file, seed, set_aside),
                Verdict::Unfinished => {
                    return Ok((self.fresh(file)?, set_aside.map(|damage| Restored { set_aside: Some(damage), ..Restored::default() })));
                }
                Verdict::Foreign | Verdict::OtherShape { .. } if self.definition.store_delete => {
                    std::fs::remove_file(self.path).map_err(|source| self.failed(source))?;
                }
                Verdict::Foreign => return Err(StoreError::Foreign { path: self.path.into() }),
                Verdict::OtherShape { found } => {
                    return Err(StoreError::Shape { path: self.path.into(), found, wanted: describe(&shape(self.layout)) });
                }
                Verdict::Damaged { why } => set_aside = Some(Damage { kept_as: self.put_aside()?, why }),
            }
        }
        Err(self.failed(io::ErrorKind::Interrupted.into()))
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Open { path: self.path.into(), source }
    }

    /// The file, with its lock, and still under its name.
    fn locked(&self) -> Result<File, StoreError> {
        let nonblock = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let started = std::time::Instant::now();
        loop {
            let open =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nonblock).open(self.path);
            let file = open.map_err(|source| self.failed(source))?;
            let is = file.metadata().map_err(|source| self.failed(source))?;
            if !is.is_file() {
                return Err(StoreError::NotAFile { path: self.path.into() });
            }
            if lock_file(&file).map_err(|source| self.failed(source))? {
                let named = std::fs::metadata(self.path).is_ok_and(|named| (named.dev(), named.ino()) == (is.dev(), is.ino()));
                if named {
                    return Ok(file);
                }
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
            if started.elapsed() > LOCK_PATIENCE {
                return Err(StoreError::InUse { path: self.path.into() });
            }
        }
    }

    /// The header's words; those that cannot be read are zero.
    fn header(&self, file: &File) -> [u64; HEADER] {
        let mut bytes = [0; HEADER * 8];
        let _ = file.read_exact_at(&mut bytes, 0);
        let mut words = [0; HEADER];
        words.iter_mut().zip(bytes.chunks_exact(8)).for_each(|(word, chunk)| *word = crate::hash::word(chunk));
        words
    }

    /// A file of the full size, empty. Its room is taken from the disk at once: a full disk would otherwise end processes that write later.
    fn fresh(&self, file: File) -> Result<Memory, StoreError> {
        let bytes = self.layout.total as u64;
        let no_room = |source| StoreError::NoRoom { path: self.path.into(), bytes, source };
        file.set_len(0).map_err(no_room)?;
        if let Err(error) = nix::fcntl::posix_fallocate(&file, 0, bytes as i64) {
            let _ = file.set_len(0);
            return Err(no_room(error.into()));
        }
        let seed = random();
        let words = header(self.layout, seed);
        let memory = self.mapped(file, seed)?;
        memory.counter(Counter::Earliest).store(u64::MAX, Relaxed);
        let cells = memory.segment.u64s(0, HEADER);
        words.iter().zip(cells).rev().for_each(|(word, cell)| cell.store(*word, Relaxed));
        Ok(memory)
    }

    fn mapped(&self, file: File, seed: u64) -> Result<Memory, StoreError> {
        let segment = Segment::map(file.into(), self.layout.total).map_err(|source| self.failed(source))?;
        Ok(Memory { segment, layout: self.layout.clone(), seed, patience: WRITE_PATIENCE })
    }

    /// The file's items. Only slots, keys and values are taken over, each with its checksum checked; all else is made anew.
    fn restored(&self, file: File, seed: u64, set_aside: Option<Damage>) -> Result<(Memory, Option<Restored>), StoreError> {
        let memory = self.mapped(file, seed)?;
        forget(&memory);
        let (items, dropped) = repair::restore(&memory).map_err(|busy| self.failed(io::Error::other(busy)))?;
        Ok((memory, Some(Restored { items, dropped, set_aside })))
    }

    fn put_aside(&self) -> Result<PathBuf, StoreError> {
        for number in 1..10_000 {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".damaged-{number}"));
            let aside = PathBuf::from(name);
            if aside.symlink_metadata().is_err() {
                std::fs::rename(self.path, &aside).map_err(|source| self.failed(source))?;
                return Ok(aside);
            }
        }
        Err(self.failed(io::ErrorKind::AlreadyExists.into()))
    }
}

/// Zeroes what belongs to the processes of another time: locks, counters, lists.
fn forget(memory: &Memory) {
    let layout = &memory.layout;
    let zero = |cells: &[AtomicU64]| cells.iter().for_each(|cell| cell.store(0, Relaxed));
    zero(memory.segment.u64s(layout.counters, (layout.states - layout.counters) / 8));
    zero(memory.segment.u64s(layout.bits, (layout.slots_at - layout.bits) / 8));
}
