//! Being told that something changed in the sources, and which files are being written right now.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A writer that neither writes nor closes for so long does not hold a vassal back any more.
const STALE_WRITER_MS: u64 = 3000;

/// inotify over a changing set of directories and files.
pub struct Watch {
    inotify: Inotify,
    by_path: BTreeMap<PathBuf, WatchDescriptor>,
    by_number: BTreeMap<i32, PathBuf>,
    /// Files that somebody has written to and not closed, with the time of the last write (`Now::ms`).
    writing: BTreeMap<PathBuf, u64>,
    /// Whether every path that was asked for is watched.
    complete: bool,
}

impl Watch {
    pub fn new() -> nix::Result<Self> {
        Ok(Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            by_path: BTreeMap::new(),
            by_number: BTreeMap::new(),
            writing: BTreeMap::new(),
            complete: false,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether a change cannot be missed (it can on network file systems, and when the kernel's limit of watches is reached).
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Watches exactly these from now on; true if one of them is new, so that what it holds has to be looked at once more.
    pub fn set(&mut self, wanted: &BTreeSet<PathBuf>) -> bool {
        let gone: Vec<PathBuf> = self.by_path.keys().filter(|p| !wanted.contains(*p)).cloned().collect();
        for path in gone {
            let Some(wd) = self.by_path.remove(&path) else { continue };
            // Links with one target have one watch.
            if !self.by_path.values().any(|other| *other == wd) && self.by_number.remove(&wd.as_raw()).is_some() {
                let _ = self.inotify.rm_watch(wd); // the kernel may have dropped it with the file
            }
        }
        self.complete = true;
        let mut news = false;
        for path in wanted {
            if self.by_path.contains_key(path) {
                continue;
            }
            match self.inotify.add_watch(path.as_path(), interesting()) {
                Ok(wd) => {
                    news = true;
                    self.by_number.insert(wd.as_raw(), path.clone());
                    self.by_path.insert(path.clone(), wd);
                }
                Err(_) => self.complete = false,
            }
        }
        news
    }

    /// Takes what happened; true if it may concern a vassal.
    pub fn read(&mut self, now_ms: u64) -> bool {
        let mut news = false;
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(_) => return news,
            };
            for event in events {
                news = true;
                let raw = event.wd.as_raw();
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    // What was watched is gone (or replaced): the next look finds out.
                    self.by_number.remove(&raw);
                    self.by_path.retain(|_, wd| wd.as_raw() != raw);
                } else if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.writing.clear();
                } else if let Some(base) = self.by_number.get(&raw) {
                    let path = event.name.as_ref().map_or_else(|| base.clone(), |name| base.join(name));
                    self.note(path, event.mask, now_ms);
                }
            }
        }
    }

    fn note(&mut self, path: PathBuf, mask: AddWatchFlags, now_ms: u64) {
        if mask.contains(AddWatchFlags::IN_MODIFY) {
            self.writing.insert(path, now_ms);
        } else if !mask.contains(AddWatchFlags::IN_ATTRIB) {
            self.writing.remove(&path);
        }
    }

    /// Whether somebody is in the middle of writing that file.
    pub fn is_being_written(&self, path: &Path, now_ms: u64) -> bool {
        self.writing.get(path).is_some_and(|&t| now_ms < t + STALE_WRITER_MS)
    }
}

fn interesting() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_is_being_written_is_known_until_it_is_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.ini");
        let mut watch = Watch::new().expect("inotify");
        assert!(watch.set(&BTreeSet::from([dir.path().to_path_buf()])));
        assert!(!watch.set(&BTreeSet::from([dir.path().to_path_buf()])));
        let mut file = std::fs::File::create(&path).expect("made");
        file.write_all(b"[uwsgi]").expect("written");
        assert!(watch.read(100));
        assert!(watch.is_being_written(&path, 200));
        assert!(!watch.is_being_written(&path, 100 + STALE_WRITER_MS));
        drop(file);
        assert!(watch.read(200));
        assert!(!watch.is_being_written(&path, 200));
        assert!(watch.is_complete());
        assert!(!watch.read(300));
    }

    #[test]
    fn what_cannot_be_watched_is_known() {
        let mut watch = Watch::new().expect("inotify");
        watch.set(&BTreeSet::from([PathBuf::from("/nonexistent/dir")]));
        assert!(!watch.is_complete());
    }
}
