//! `touch-*` and `fs-*`: files whose change asks for something.
//!
//! Each file is watched itself and through its directory, so that a file that does not exist yet, or that is replaced by a rename,
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
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

pub use what::{Touch, WatchError, watched};

/// How often files are looked at that inotify cannot watch; uWSGI looks at all of them once a second.
const SLOW: Duration = Duration::from_secs(3);

/// A file is looked at when nothing has happened to it for so long: creating, writing and closing it is one touch.
const QUIET: Duration = Duration::from_millis(50);
/// But not later than that after the first event.
const LATEST: Duration = Duration::from_secs(1);

/// One file to watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub path: PathBuf,
    pub what: Touch,
    /// If it is a directory, what happens to the files in it counts, too (`fs-*`).
    pub inside: bool,
}

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
    target: Target,
    stamp: Option<Stamp>,
    /// The watch of a directory of which the inside counts, and whether something happened there.
    inside: Option<WatchDescriptor>,
    stirred: bool,
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
    pub fn new(files: Vec<Target>, now: Instant) -> std::io::Result<Option<Self>> {
        if files.is_empty() {
            return Ok(None);
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let files = files.into_iter().map(|target| Watched { stamp: stamp(&target.path), target, inside: None, stirred: false }).collect();
        let mut watcher = Self { inotify, files, blind: false, looked: now, stirred: None };
        watcher.add_watches();
        Ok(Some(watcher))
    }

    /// Takes note of what happens; what came of it is told by [`Self::on_deadline`], a moment later.
    pub fn on_ready(&mut self, now: Instant) {
        if self.drain() {
            // A file that is new is watched from now on.
            self.add_watches();
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

    /// Reads what inotify has; whether any of it concerns us (other files of a watched directory may come and go all the time).
    fn drain(&mut self) -> bool {
        let names: HashSet<OsString> =
            self.files.iter().flat_map(|f| links(&f.target.path)).filter_map(|p| p.file_name().map(OsString::from)).collect();
        let mut concerned = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events.iter().filter(|e| !e.mask.contains(AddWatchFlags::IN_IGNORED)) {
                        let here = self.files.iter_mut().filter(|f| f.inside == Some(event.wd));
                        let stirred = here.map(|file| file.stirred = true).count() > 0;
                        concerned |= stirred || event.name.as_ref().is_none_or(|name| names.contains(name));
                    }
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
        self.add_watches();
        let mut events = vec![];
        for file in &mut self.files {
            let stamp = stamp(&file.target.path);
            let stirred = std::mem::take(&mut file.stirred);
            if stamp.is_some() && (stirred || stamp != file.stamp) {
                events.push(Event { path: file.target.path.clone(), what: file.target.what.clone() });
            }
            // A file that went away is touched when it comes back, even as the very same one.
            file.stamp = stamp;
        }
        events
    }

    /// (Re)adds a watch for each directory on the way, where files come and go, and for each file that there is; adding one that is there already
    /// changes nothing.
    fn add_watches(&mut self) {
        use AddWatchFlags as On;
        // Two of ours may be the same file.
        let added = On::from_bits_retain(nix::libc::IN_MASK_ADD);
        let comings = On::IN_CREATE | On::IN_MOVED_TO | On::IN_MOVED_FROM | On::IN_DELETE | On::IN_DELETE_SELF | On::IN_MOVE_SELF;
        let changes = On::IN_ATTRIB | On::IN_MODIFY;
        let directories: HashSet<PathBuf> = self.files.iter().flat_map(|f| links(&f.target.path)).map(|p| parent(&p)).collect();
        self.blind = directories.iter().any(|d| self.inotify.add_watch(d.as_path(), comings | added).is_err());
        for Watched { target, inside, .. } in &mut self.files {
            let whole = target.inside && target.path.is_dir();
            let mask = if whole { comings | changes } else { changes };
            let watch = self.inotify.add_watch(target.path.as_path(), mask | added).ok();
            *inside = watch.filter(|_| whole);
        }
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
        let target = Target { path: path.to_owned(), what: Touch::LogReopen, inside: true };
        Watcher::new(vec![target], Instant::now()).unwrap().unwrap()
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
    fn what_happens_in_a_directory_counts_and_what_neighbours_write_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("app")).unwrap();
        std::fs::write(dir.path().join("app/a.py"), "").unwrap();
        let mut w = watcher(&dir.path().join("app"));
        std::fs::write(dir.path().join("app/a.py"), "x").unwrap();
        assert!(touched(&mut w));
        std::fs::write(dir.path().join("app/b.py"), "").unwrap();
        assert!(touched(&mut w));
        std::fs::remove_file(dir.path().join("app/b.py")).unwrap();
        assert!(touched(&mut w));
        std::fs::write(dir.path().join("log"), "").unwrap();
        assert!(!touched(&mut w));
        for _ in 0..3 {
            std::fs::write(dir.path().join("log"), "line").unwrap();
            assert!(matches!(w.inotify.read_events(), Err(Errno::EAGAIN)));
        }
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
