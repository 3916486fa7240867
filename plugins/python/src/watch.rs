//! Waiting for a change of files (`py-autoreload`).

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pyo3::prelude::*;

/// Waits until something in one of the directories changes, at most `seconds`. (The list is a new one each time: modules are imported at any time.)
#[pyfunction]
pub fn wait_for_change(py: Python<'_>, directories: Vec<String>, seconds: u32) -> PyResult<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(std::io::Error::from)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_ONLYDIR;
    for directory in &directories {
        // One that cannot be watched (gone, or too many of them) is seen after `seconds` all the same.
        let _ = inotify.add_watch(directory.as_str(), flags);
    }
    let timeout = PollTimeout::try_from(u64::from(seconds) * 1000).unwrap_or(PollTimeout::MAX);
    py.detach(|| match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(std::io::Error::from(error).into()),
    })
}
