//! What this process knows of its instance: settings, descriptors, who it is. Set once at the start; a fork changes only the worker's number and its control socket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::Context;
use imperator_sys::process::take_inherited;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::Link;
use imperator_worker::control::{BOOT_ENV, Boot, FromWorker};
use imperator_worker::scoreboard::Scoreboard;

pub struct Instance {
    pub boot: Boot,
    pub scoreboard: Arc<Scoreboard>,
    /// The zygote's end of its pair; taken by its loop.
    control: Mutex<Option<SeqPacket>>,
    listeners: Mutex<Vec<OwnedFd>>,
    request_log: Mutex<Option<OwnedFd>>,
    /// 0 before the fork.
    worker: AtomicU32,
    /// The worker's way to the master.
    link: Mutex<Option<Arc<Link>>>,
}

static INSTANCE: OnceLock<Instance> = OnceLock::new();

/// This process's instance; `None` before `main` has read it.
pub fn instance() -> Option<&'static Instance> {
    INSTANCE.get()
}

impl Instance {
    /// Reads what the master left in the memfd that the environment names, and takes the descriptors.
    pub fn receive(number: &str) -> anyhow::Result<&'static Self> {
        let number = number.parse().with_context(|| format!("{BOOT_ENV} = {number}"))?;
        let mut memfd = std::fs::File::from(take_inherited(number)?);
        std::io::Seek::rewind(&mut memfd)?;
        let boot: Boot = serde_json::from_reader(std::io::BufReader::new(memfd)).context("the boot record")?;
        let scoreboard = take_inherited(boot.scoreboard).context("scoreboard")?;
        let scoreboard =
            Arc::new(Scoreboard::open(scoreboard, boot.settings.process.workers.max(1), boot.settings.process.threads.max(1))?);
        let control = boot.control.map(take_inherited).transpose().context("control socket")?;
        let listeners = boot.listeners.iter().map(|l| take_inherited(l.fd)).collect::<Result<_, _>>().context("listener")?;
        let request_log = boot.request_log.map(take_inherited).transpose().context("request log")?;
        let instance = Self {
            boot,
            scoreboard,
            control: Mutex::new(control.map(SeqPacket::from_fd)),
            listeners: Mutex::new(listeners),
            request_log: Mutex::new(request_log),
            worker: AtomicU32::new(0),
            link: Mutex::new(None),
        };
        anyhow::ensure!(INSTANCE.set(instance).is_ok(), "main() was called twice");
        INSTANCE.get().context("instance")
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

    /// New targets of the log: descriptors 1 and 2, and the request log.
    pub fn reopen_logs(&self, fds: Vec<OwnedFd>) -> std::io::Result<()> {
        let mut fds = fds.into_iter();
        if let Some(log) = fds.next() {
            imperator_sys::process::redirect(log.as_fd(), 1)?;
            imperator_sys::process::redirect(log.as_fd(), 2)?;
        }
        if let Some(requests) = fds.next() {
            *lock(&self.request_log) = Some(requests);
        }
        Ok(())
    }

    /// Tells the master something. An error without one.
    pub fn tell_master(&self, message: &FromWorker) -> std::io::Result<()> {
        let link = lock(&self.link).clone();
        link.map(|link| link.tell(message))
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotConnected, "this process has no master"))
    }
}

/// A lock that a panic elsewhere does not make useless: what it protects is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
