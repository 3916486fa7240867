//! `lua-autoreload`: which files are watched, and the thread that looks after them.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::language::LuaLanguage;

/// What tells one version of a file from another: time of change in nanoseconds, size, inode. `None`: it is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

/// Files with what they were when they were last looked at.
#[derive(Default)]
pub struct Watched {
    files: BTreeMap<String, Stamp>,
}

impl Watched {
    /// Watches these from now on, as they are.
    pub fn follow(&mut self, files: Vec<String>) {
        self.files = files
            .into_iter()
            .map(|file| {
                let stamp = self.files.get(&file).copied().unwrap_or_else(|| stamp(&file));
                (file, stamp)
            })
            .collect();
    }

    /// The first file that is another than at the last look. All of them count as seen afterwards.
    pub fn changed(&mut self) -> Option<String> {
        let mut found = None;
        for (file, seen) in &mut self.files {
            let stamp = stamp(file);
            if stamp != *seen {
                *seen = stamp;
                found.get_or_insert_with(|| file.clone());
            }
        }
        found
    }

    pub fn directories(&self) -> Vec<String> {
        let parent =
            |file: &String| Path::new(file).parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).display().to_string();
        let mut all: Vec<_> = self.files.keys().map(parent).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn stamp(file: &str) -> Stamp {
    let found = std::fs::metadata(file).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

/// Starts the thread that looks when the kernel tells of a change, and every `seconds` for what it does not tell of (network file systems). Requests look,
/// too, so that none that comes after an edit is served by old code.
///
/// # Errors
/// No thread, or no inotify.
pub fn start(language: Arc<LuaLanguage>, seconds: u32) -> std::io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let timeout = PollTimeout::try_from(u64::from(seconds) * 1000).unwrap_or(PollTimeout::MAX);
    let watch = move || {
        loop {
            for directory in language.directories() {
                // One that cannot be watched is looked at every so often all the same. One that is watched already stays so.
                let flags =
                    AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_ONLYDIR;
                let _ = inotify.add_watch(directory.as_str(), flags);
            }
            match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            while inotify.read_events().is_ok() {}
            language.look();
        }
    };
    std::thread::Builder::new().name("lua-autoreload".into()).spawn(watch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("a.lua"), "1").expect("file");
        let mut watched = Watched::default();
        watched.follow(vec![path("a.lua"), path("b.lua")]);
        assert_eq!(watched.changed(), None);
        std::fs::write(path("a.lua"), "longer").expect("file");
        assert_eq!((watched.changed(), watched.changed()), (Some(path("a.lua")), None));
        std::fs::write(path("b.lua"), "there").expect("file");
        assert_eq!((watched.changed(), watched.changed()), (Some(path("b.lua")), None));
        assert_eq!(watched.directories(), [directory.path().display().to_string()]);
    }
}
