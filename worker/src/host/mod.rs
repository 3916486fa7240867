//! What this process knows of its instance, and the services that apps of any language share.
//!
//! One value a process, set once at the start; a fork changes only the worker's number and its control socket. Python's module and Lua's table are
//! thin bindings of its methods: a service is written here once and has the same name in each language.

pub mod cache;
mod metrics;

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use imperator_sys::process::{redirect, take_inherited};
use imperator_sys::seqpacket::SeqPacket;

use crate::Link;
use crate::control::{BOOT_ENV, Boot, FromWorker, FromZygote};
use crate::scoreboard::Scoreboard;

mod facts;

pub use facts::{memory, micros};

/// This process and its instance.
pub struct Host {
    pub boot: Arc<Boot>,
    pub scoreboard: Arc<Scoreboard>,
    caches: cache::Caches,
    metrics: Option<crate::metrics::Metrics>,
    /// The zygote's end of its pair; taken by its loop.
    control: Mutex<Option<SeqPacket>>,
    listeners: Mutex<Vec<OwnedFd>>,
    request_log: Mutex<Option<OwnedFd>>,
    /// 0 before the fork.
    worker: AtomicU32,
    /// The worker's way to the master.
    link: Mutex<Option<Arc<Link>>>,
}

/// What the master left is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("{BOOT_ENV} = {0}: no number of a descriptor")]
    Number(String),
    #[error("the boot record: {0}")]
    Record(#[from] serde_json::Error),
    #[error("{what}: {source}")]
    Inherited { what: &'static str, source: std::io::Error },
    #[error(transparent)]
    Cache(#[from] cache::OpenError),
    #[error("this process has its instance already")]
    Twice,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// This process's host; `None` before [`Host::install`].
pub fn host() -> Option<&'static Host> {
    HOST.get()
}

impl Boot {
    /// Reads what the master left in the memfd that the environment names: `number` is the value of [`BOOT_ENV`].
    ///
    /// # Errors
    /// No number, nothing behind it, or no such record.
    pub fn receive(number: &str) -> Result<Self, HostError> {
        let record = number.parse().map_err(|_| HostError::Number(number.to_owned()))?;
        let mut record = File::from(inherited("the boot record", record)?);
        record.rewind().map_err(|source| HostError::Inherited { what: "the boot record", source })?;
        Ok(serde_json::from_reader(BufReader::new(record))?)
    }
}

impl Host {
    /// Makes this process the one that `boot` describes, and takes the descriptors.
    ///
    /// # Errors
    /// A descriptor that is not there, and a second call.
    pub fn install(boot: Arc<Boot>) -> Result<&'static Self, HostError> {
        let host = Self::of(boot)?;
        HOST.set(host).map_err(|_| HostError::Twice)?;
        HOST.get().ok_or(HostError::Twice)
    }

    #[inline(never)]
    fn of(boot: Arc<Boot>) -> Result<Self, HostError> {
        let process = &boot.settings.process;
        let scoreboard = Scoreboard::open(inherited("scoreboard", boot.scoreboard)?, process.workers.max(1), process.threads.max(1))
            .map_err(|source| HostError::Inherited { what: "scoreboard", source })?;
        let control = boot.control.map(|fd| inherited("control socket", fd)).transpose()?;
        let listeners = boot.listeners.iter().map(|l| inherited("listener", l.fd)).collect::<Result<_, _>>()?;
        let request_log = boot.request_log.map(|fd| inherited("request log", fd)).transpose()?;
        let caches = boot.caches.iter().map(|fd| fd.map(|fd| inherited("cache", fd)).transpose()).collect::<Result<_, _>>()?;
        let caches = cache::Caches::open(&boot.settings, caches)?;
        Ok(Self {
            caches,
            scoreboard: Arc::new(scoreboard),
            control: Mutex::new(control.map(SeqPacket::from_fd)),
            listeners: Mutex::new(listeners),
            request_log: Mutex::new(request_log),
            metrics: Self::open_metrics(&boot)?,
            worker: AtomicU32::new(0),
            link: Mutex::new(None),
            boot,
        })
    }

    /// The worker's number, from 1; 0 in the zygote.
    pub fn worker(&self) -> u32 {
        self.worker.load(Relaxed)
    }

    /// This process is worker `number` from now on.
    pub fn become_worker(&self, number: u32, link: Option<Arc<Link>>) {
        self.worker.store(number, Relaxed);
        *lock(&self.link) = link;
    }

    /// The zygote's end of its pair.
    pub fn take_control(&self) -> Option<SeqPacket> {
        lock(&self.control).take()
    }

    /// The listening sockets, for the event loop that owns them from now on. (Their numbers stay in `boot`.)
    pub fn take_listeners(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut lock(&self.listeners))
    }

    pub fn take_request_log(&self) -> Option<OwnedFd> {
        lock(&self.request_log).take()
    }

    /// A new log: descriptors 1 and 2.
    ///
    /// # Errors
    /// A descriptor that cannot be put in the place of 1 or 2.
    pub fn reopen_logs(&self, fds: Vec<OwnedFd>) -> std::io::Result<()> {
        let Some(log) = fds.into_iter().next() else { return Ok(()) };
        redirect(log.as_fd(), 1)?;
        redirect(log.as_fd(), 2)
    }

    /// Tells the master something.
    ///
    /// # Errors
    /// `NotConnected` without a master.
    pub fn tell_master(&self, message: &FromWorker) -> std::io::Result<()> {
        let link = lock(&self.link).clone();
        link.map(|link| link.tell(message))
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotConnected, "this process has no master"))
    }

    /// Has the master raise the alarm of that name with a message, which it cuts to `alarm-msg-size`.
    ///
    /// # Errors
    /// `NotConnected` without a master.
    pub fn alarm(&self, name: &str, message: &str) -> std::io::Result<()> {
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let (name, message) = (cut(name, 256), cut(message, 16 * 1024));
        match &*lock(&self.control) {
            Some(control) => control.send(&FromZygote::Alarm { name, message }, &[]), // no worker yet
            None => self.tell_master(&FromWorker::Alarm { name, message }),
        }
    }
}

fn inherited(what: &'static str, fd: i32) -> Result<OwnedFd, HostError> {
    take_inherited(fd).map_err(|source| HostError::Inherited { what, source })
}

/// A lock that a panic elsewhere does not make useless: what it protects is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_master_did_not_leave_is_named() {
        assert!(matches!(Boot::receive("x"), Err(HostError::Number(text)) if text == "x"));
        assert!(matches!(Boot::receive("1000000"), Err(HostError::Inherited { what: "the boot record", .. })));
        assert!(host().is_none());
    }
}
