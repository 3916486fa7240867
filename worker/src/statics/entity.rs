//! What is known about one file, so that the next request for it need not ask again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;
use nix::sys::uio::pread;

use super::resolve::Found;

/// Files of no more bytes are kept in memory.
pub(super) const SMALL: u64 = 16 * 1024;
/// Seconds since the last change before a file counts as settled: the times of two changes in a row can be the same.
const SETTLED: u64 = 2;

/// What of a file's status says that it is still the same: not replaced, not changed, not renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&FileStat> for Identity {
    fn from(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

pub(super) enum Content {
    Memory(Box<[u8]>),
    File(Arc<OwnedFd>),
}

pub(super) struct Entity {
    pub identity: Identity,
    pub content: Content,
    /// Bytes.
    pub length: u64,
    pub modified: SystemTime,
    pub last_modified: String,
    /// Strong, with its quotes.
    pub etag: String,
    /// As Content-Type says it.
    pub media_type: Option<String>,
    /// As it was asked for.
    pub path: PathBuf,
    /// Without links; only where the configuration looks at it.
    pub resolved: Option<PathBuf>,
    /// Compressed forms are looked for beside it.
    pub may_vary: bool,
}

impl Entity {
    /// `now` is only compared with the file's times.
    pub fn new(found: Found, resolved: Option<PathBuf>, media_type: Option<String>, may_vary: bool, now: SystemTime) -> Self {
        let Found { file, stat, path, .. } = found;
        let length = stat.st_size.max(0).unsigned_abs();
        let modified = epoch(stat.st_mtime);
        let settled = now.duration_since(epoch(stat.st_ctime)).is_ok_and(|age| age.as_secs() >= SETTLED);
        let content = match read_small(&file, length).filter(|_| settled) {
            Some(bytes) => Content::Memory(bytes),
            None => Content::File(Arc::new(file)),
        };
        Self {
            identity: Identity::from(&stat),
            content,
            length,
            modified,
            last_modified: httpdate::fmt_http_date(modified),
            etag: etag(&stat),
            media_type,
            path,
            resolved,
            may_vary,
        }
    }

    /// The name by which the configuration knows it.
    pub fn name(&self) -> &Path {
        self.resolved.as_deref().unwrap_or(&self.path)
    }
}

/// The last second of the year 9999: no date of HTTP says more.
const LAST_SECOND: u64 = 253_402_300_799;

/// The last time that a header can say.
pub(super) fn last_date() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(LAST_SECOND)
}

/// A time before 1970 is 1970, one that no header can say the last that one can.
fn epoch(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LAST_SECOND))
}

/// Time of change in nanoseconds and size: the same on every host that has the file with its time.
fn etag(stat: &FileStat) -> String {
    let nanoseconds = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    format!("\"{:x}-{:x}\"", nanoseconds.max(0), stat.st_size.max(0))
}

fn read_small(file: &OwnedFd, length: u64) -> Option<Box<[u8]>> {
    let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= SMALL)?];
    read_at(file, &mut bytes, 0)?;
    Some(bytes.into_boxed_slice())
}

/// Fills `bytes` from `offset`; `None` if the file is shorter or cannot be read.
pub(super) fn read_at(file: &OwnedFd, bytes: &mut [u8], offset: u64) -> Option<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let at = i64::try_from(offset + filled as u64).ok()?;
        match pread(file.as_fd(), &mut bytes[filled..], at) {
            Ok(0) => return None,
            Ok(count) => filled += count,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statics::resolve;

    fn entity(path: &Path, now: SystemTime) -> Entity {
        let found = resolve::open(path, b"", &[]).unwrap_or_else(|_| panic!("{}", path.display()));
        Entity::new(found, None, None, false, now)
    }

    #[test]
    fn only_small_and_settled_files_are_kept_in_memory() {
        let top = tempfile::tempdir().expect("directory");
        let (small, large) = (top.path().join("small"), top.path().join("large"));
        std::fs::write(&small, "small").expect("write");
        std::fs::write(&large, vec![0; SMALL as usize + 1]).expect("write");
        let later = SystemTime::now() + Duration::from_secs(10);
        assert!(matches!(entity(&small, later).content, Content::Memory(bytes) if &*bytes == b"small"));
        assert!(matches!(entity(&small, SystemTime::now()).content, Content::File(_)), "it may change again within the same tick");
        assert!(matches!(entity(&large, later).content, Content::File(_)));
    }

    #[test]
    fn times_that_no_header_can_say_are_the_nearest_that_one_can() {
        for (seconds, date) in [
            (-1, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (253_402_300_800, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(httpdate::fmt_http_date(epoch(seconds)), date);
        }
    }

    #[test]
    fn a_change_changes_identity_and_tag() {
        let top = tempfile::tempdir().expect("directory");
        let path = top.path().join("a");
        std::fs::write(&path, "a").expect("write");
        let before = entity(&path, SystemTime::now());
        assert!(before.etag.starts_with('"') && before.etag.ends_with("-1\""), "{}", before.etag);
        std::fs::write(&path, "ab").expect("write");
        let after = entity(&path, SystemTime::now());
        assert!(before.identity != after.identity && before.etag != after.etag);
    }
}
