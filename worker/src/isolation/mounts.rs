//! A view of the file system of one's own: private folders for temporary files, hidden folders, only one's own processes in /proc. To be used in a
//! mount namespace of one's own, before anything is given up.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::{IsolationError, step};

/// What is made private, in addition to shared memory by name.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
const SHARED_MEMORY: &str = "/dev/shm";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Mounts {
    /// Folders of one's own on /tmp, /var/tmp and /dev/shm.
    pub tmp: bool,
    /// Bytes of each; `None`: half of the memory.
    pub tmp_size: Option<u64>,
    /// What of the app's is below /tmp and has to stay in sight.
    pub keep: Vec<PathBuf>,
    pub hide: Vec<PathBuf>,
    /// A /proc of the process namespace that this process is in.
    pub proc: bool,
}

impl Mounts {
    /// Whether there is anything to do.
    pub fn any(&self) -> bool {
        self.tmp || self.proc || !self.hide.is_empty()
    }

    /// Carries it out.
    ///
    /// # Errors
    /// The kernel refuses a mount.
    pub fn make(&self) -> Result<(), IsolationError> {
        if !self.any() {
            return Ok(());
        }
        let before = std::env::current_dir();
        // With the /proc of before: the descriptors of what is kept are found by it.
        if self.tmp {
            self.temporary()?;
        }
        for path in &self.hide {
            hide(path)?;
        }
        if self.proc {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            step("a /proc of its own", mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>))?;
        }
        // The same folder, seen through what was mounted over the way to it.
        if let Ok(directory) = before {
            let _ = std::env::set_current_dir(directory);
        }
        Ok(())
    }

    fn temporary(&self) -> Result<(), IsolationError> {
        let places: Vec<&str> = TEMPORARY.into_iter().chain([SHARED_MEMORY]).filter(|p| Path::new(p).is_dir()).collect();
        let mut kept: Vec<(&PathBuf, OwnedFd, bool)> = vec![];
        for path in self.keep.iter().filter(|p| places.iter().any(|place| p.starts_with(place) && *p != Path::new(place))) {
            if let Ok(fd) = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
                kept.push((path, fd, path.is_dir()));
            }
        }
        let size = self.tmp_size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
        for place in places {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            let options = format!("mode=1777{size}");
            step(format!("private-tmp: {place}"), mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options.as_str())))?;
        }
        for (path, fd, is_folder) in kept {
            put_back(path, &fd, is_folder)?;
        }
        Ok(())
    }
}

/// Makes the way to it anew and mounts there what was there before.
fn put_back(path: &Path, fd: &OwnedFd, is_folder: bool) -> Result<(), IsolationError> {
    let what = || format!("private-tmp: keeping {}", path.display());
    if is_folder {
        step(what(), fs::create_dir_all(path))?;
    } else {
        if let Some(folder) = path.parent() {
            step(what(), fs::create_dir_all(folder))?;
        }
        step(what(), OpenOptions::new().create(true).append(true).open(path))?;
    }
    let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
    step(what(), mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>))
}

/// Something empty over it, which nobody may enter. What is not there needs no hiding.
fn hide(path: &Path) -> Result<(), IsolationError> {
    let what = || format!("hide-path = {}", path.display());
    let Ok(found) = fs::metadata(path) else { return Ok(()) };
    if found.is_dir() {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        step(what(), mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=000,size=4k")))
    } else {
        step(what(), mount(Some("/dev/null"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>))
    }
}
