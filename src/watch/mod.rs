//! `touch-*` and `fs-*`: files whose change asks for something.
//!
//! Each file is watched through its directory, so that a file that does not exist yet, or that is replaced by a rename,
//! is seen too; a symlink also through the directory of what it points at. An event only makes us look: what counts is
//! that the file's stamp (device, inode, mtime) differs from the one that we knew. Where inotify
//! cannot watch, a look every few seconds does instead.

mod what;

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

pub use what::{Touch, WatchError, watched};

/// How often files are looked at that inotify cannot watch; uWSGI looks at all of them once a second.
const SLOW: Duration = Duration::from_secs(3);

/// A file is looked at when nothing has happened to it for so long: creating, writing and closing it is one touch.
const QUIET: Duration = Duration::from_millis(50);
/// But not later than that after the first event.
const LATEST: Duration = Duration::from_secs(1);

/// One file that was touched.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub path: PathBuf,
    pub what: Touch,
}

/// The watcher of all the files of an instance. It does not survive a re-exec and need not: the next one starts from
/// the files as they are then, as uWSGI's does.
#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    files: Vec<Watched>,
    /// Directories that inotify could not watch: look at every file every [`SLOW`].
    blind: bool,
    looked: Instant,
    /// When something began to happen, and when to look.
    stirred: Option<(Instant, Instant)>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    what: Touch,
    stamp: Option<Stamp>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    mtime: (i64, i64),
}

impl Watcher {
    /// Watches `files` (from [`watched`]); `None` if there are none.
    ///
    /// # Errors
    /// No inotify instance is to be had.
    pub fn new(files: Vec<(PathBuf, Touch)>, now: Instant) -> std::io::Result<Option<Self>> {
        if files.is_empty() {
            return Ok(None);
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let files = files.into_iter().map(|(path, what)| Watched { stamp: stamp(&path), path, what }).collect();
        let mut watcher = Self { inotify, files, blind: false, looked: now, stirred: None };
        watcher.watch_directories();
        Ok(Some(watcher))
    }

    /// Takes note of what happens; what came of it is told by [`Self::on_deadline`], a moment later.
    pub fn on_ready(&mut self, now: Instant) {
        if self.drain() {
            let first = self.stirred.map_or(now, |(first, _)| first);
            self.stirred = Some((first, (now + QUIET).min(first + LATEST)));
        }
    }

    /// When to call [`Self::on_deadline`]: shortly after something happened, and now and then where inotify cannot see.
    pub fn next_deadline(&self) -> Option<Instant> {
        let slow = self.blind.then(|| self.looked + SLOW);
        self.stirred.map(|(_, due)| due).into_iter().chain(slow).min()
    }

    /// The files that changed since the last look.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Event> {
        if self.next_deadline().is_some_and(|d| d <= now) { self.look(now) } else { vec![] }
    }

    /// Reads what inotify has; whether any of it concerns us (a log file may lie in a watched directory and change all the time).
    fn drain(&self) -> bool {
        let names: HashSet<OsString> =
            self.files.iter().flat_map(|f| links(&f.path)).filter_map(|p| p.file_name().map(OsString::from)).collect();
        let mut concerned = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    concerned |= events.iter().any(|e| match &e.name {
                        Some(name) => names.contains(name),
                        None => !e.mask.contains(AddWatchFlags::IN_MODIFY),
                    });
                }
                Err(Errno::EINTR) => {}
                Err(_) => return concerned,
            }
        }
    }

    fn look(&mut self, now: Instant) -> Vec<Event> {
        self.looked = now;
        self.stirred = None;
        // Before the stamps: what changes between the two is seen by the next event.
        self.watch_directories();
        let mut events = vec![];
        for file in &mut self.files {
            let stamp = stamp(&file.path);
            if stamp.is_some() && stamp != file.stamp {
                events.push(Event { path: file.path.clone(), what: file.what.clone() });
            }
            // A file that went away is touched when it comes back, even as the very same one.
            file.stamp = stamp;
        }
        events
    }

    /// (Re)adds a watch for each directory on the way; adding one that is there already changes nothing.
    fn watch_directories(&mut self) {
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let directories: HashSet<PathBuf> = self.files.iter().flat_map(|f| links(&f.path)).map(|p| parent(&p)).collect();
        self.blind = directories.iter().any(|d| self.inotify.add_watch(d.as_path(), mask).is_err());
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The file and, as long as it is a symlink, what it points at. (Links of directories on the way are not followed up.)
fn links(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    // As many as the kernel follows.
    while all.len() <= 40 {
        let Some(last) = all.last() else { break };
        let Ok(target) = std::fs::read_link(last) else { break };
        let next = parent(last).join(target);
        all.push(next);
    }
    all
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let m = std::fs::metadata(path).ok()?;
    Some(Stamp { device: m.dev(), inode: m.ino(), mtime: (m.mtime(), m.mtime_nsec()) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn watcher(path: &Path) -> Watcher {
        Watcher::new(vec![(path.to_owned(), Touch::LogReopen)], Instant::now()).unwrap().unwrap()
    }

    /// Events are queued before the system call that caused them returns, so that nothing needs waiting for.
    fn touched(watcher: &mut Watcher) -> bool {
        watcher.on_ready(Instant::now());
        watcher.next_deadline().is_some_and(|due| !watcher.on_deadline(due).is_empty())
    }

    #[test]
    fn creating_and_writing_is_one_touch_and_a_busy_file_is_looked_at_still() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut w = watcher(&path);
        let start = Instant::now();
        std::fs::write(&path, "").unwrap();
        w.on_ready(start);
        assert_eq!(w.on_deadline(start), []);
        set_mtime(&path, 5);
        w.on_ready(start + QUIET / 2);
        assert_eq!(w.on_deadline(start + QUIET), []);
        assert_eq!(w.on_deadline(start + QUIET * 2).len(), 1);
        assert_eq!(w.next_deadline(), None);
        for step in 0..30 {
            set_mtime(&path, 10 + step);
            w.on_ready(start + QUIET * step as u32);
        }
        assert_eq!(w.next_deadline(), Some(start + LATEST));
    }

    fn set_mtime(path: &Path, seconds: u64) {
        let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn creation_mtime_and_replacement_count_and_neighbours_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut w = watcher(&path);
        assert!(!touched(&mut w));
        std::fs::write(&path, "").unwrap();
        assert!(touched(&mut w));
        std::fs::write(dir.path().join("other"), "x").unwrap();
        assert!(!touched(&mut w));
        set_mtime(&path, 7);
        assert!(touched(&mut w));
        std::fs::write(dir.path().join("new"), "").unwrap();
        set_mtime(&dir.path().join("new"), 7);
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(touched(&mut w));
        std::fs::remove_file(&path).unwrap();
        assert!(!touched(&mut w));
        std::fs::write(&path, "").unwrap();
        assert!(touched(&mut w));
        assert!(w.next_deadline().is_none());
    }

    #[test]
    fn the_target_of_a_symlink_and_the_link_itself_are_watched() {
        let (dir, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(far.path().join("one"), "").unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink(far.path().join("one"), &path).unwrap();
        let mut w = watcher(&path);
        set_mtime(&far.path().join("one"), 9);
        assert!(touched(&mut w));
        std::fs::write(far.path().join("two"), "").unwrap();
        std::os::unix::fs::symlink(far.path().join("two"), dir.path().join("next")).unwrap();
        std::fs::rename(dir.path().join("next"), &path).unwrap();
        assert!(touched(&mut w));
        set_mtime(&far.path().join("two"), 10);
        assert!(touched(&mut w));
    }

    #[test]
    fn a_missing_directory_is_looked_for_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later").join("f");
        let mut w = watcher(&path);
        let due = w.next_deadline().unwrap();
        assert_eq!(w.on_deadline(due), []);
        std::fs::create_dir(dir.path().join("later")).unwrap();
        std::fs::write(&path, "").unwrap();
        let due = w.next_deadline().unwrap();
        assert_eq!(w.on_deadline(due).len(), 1);
        assert!(w.next_deadline().is_none());
        set_mtime(&path, 11);
        assert!(touched(&mut w));
    }
}
