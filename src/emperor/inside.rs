//! The emperor that is part of an instance with sockets or an app of its own, seen from that instance's master: a child that is started, kept
//! over reloads, given other settings, started again when it dies, and ended with the instance.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use imperator_sys::process::{self, Fork, monotonic_ms};
use imperator_sys::seqpacket::SeqPacket;
use imperator_sys::spawn;
use imperator_worker::control::{BOOT_ENV, Boot, Role};
use imperator_worker::settings::Settings;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One that lived shorter than this is not started again at once.
const SHORT_LIFE_MS: u64 = 10_000;
/// But after so long.
const PAUSE: Duration = Duration::from_secs(3);

/// The emperor of this instance, if its configuration asks for one.
#[derive(Debug, Default)]
pub struct Inside {
    running: Option<Running>,
    /// What to start when the running one has ended.
    next: Option<Settings>,
    /// Over which the running one gets other settings.
    channel: Option<SeqPacket>,
}

/// The running one is to go by the settings in the memfd that comes with this.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GoBy;

/// Names the emperor's end of that channel.
pub const FD_ENV: &str = "IMPERATOR_EMPEROR_MASTER_FD";

/// Handed over by a master that executes itself anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    pid: i32,
    since_ms: u64,
    settings: Settings,
    binary: PathBuf,
    argv: Vec<String>,
    /// For the master's next life.
    #[serde(default)]
    pub channel: Option<i32>,
}

impl Inside {
    /// Goes on with the one of the life before.
    ///
    /// # Errors
    /// Its channel was not handed over.
    pub fn resume(running: Option<Running>) -> anyhow::Result<Self> {
        let number = running.as_ref().and_then(|r| r.channel);
        let channel = number.map(process::take_inherited).transpose().context("the channel to the emperor")?.map(SeqPacket::from_fd);
        Ok(Self { running, next: None, channel })
    }

    pub fn handover(&self) -> Option<Running> {
        let channel = self.channel.as_ref().map(|c| c.as_fd().as_raw_fd());
        self.running.as_ref().map(|r| Running { channel, ..r.clone() })
    }

    /// The settings are these from now on: starts the emperor, ends it, or has it go by them, which its vassals do not notice. It is replaced only if
    /// it would have to be another user.
    ///
    /// # Errors
    /// No process could be made.
    pub fn want(&mut self, settings: &Settings, binary: &Path, argv: &[String]) -> anyhow::Result<()> {
        let wanted = !settings.emperor.sources.is_empty();
        match &mut self.running {
            Some(running) if wanted && concerns(&running.settings, settings) => Ok(()),
            Some(running)
                if wanted
                    && self.next.is_none()
                    && running.settings.privileges == settings.privileges
                    && goes_by(&self.channel, settings) =>
            {
                (running.settings, running.binary, running.argv) = (settings.clone(), binary.into(), argv.into());
                Ok(())
            }
            Some(running) => {
                let _ = kill(Pid::from_raw(running.pid), Signal::SIGINT);
                (running.binary, running.argv) = (binary.into(), argv.into());
                self.next = wanted.then(|| settings.clone());
                Ok(())
            }
            None if wanted => self.start(settings, binary, argv, Duration::ZERO),
            None => Ok(()),
        }
    }

    /// A child of the master was reaped; whether it was this. If it should run, it is started again.
    pub fn ended(&mut self, pid: i32) -> bool {
        let Some(old) = self.running.take_if(|r| r.pid == pid) else { return false };
        let replaced = self.next.is_some();
        let settings = self.next.take().unwrap_or(old.settings);
        let pause = if !replaced && monotonic_ms().saturating_sub(old.since_ms) < SHORT_LIFE_MS { PAUSE } else { Duration::ZERO };
        if !replaced {
            tracing::warn!("the emperor (pid {pid}) has ended; it is started again");
        }
        if let Err(error) = self.start(&settings, &old.binary, &old.argv, pause) {
            tracing::error!("the emperor cannot be started: {error:#}");
        }
        true
    }

    /// Has it look at its sources now.
    pub fn rescan(&self) {
        if let Some(running) = &self.running {
            let _ = kill(Pid::from_raw(running.pid), Signal::SIGWINCH);
        }
    }

    /// The instance ends: tells it to end, waits for it at most `patience_ms`, then kills it (and the kernel its vassals).
    pub fn end(&mut self, patience_ms: u64) {
        let Some(running) = self.running.take() else { return };
        let pid = Pid::from_raw(running.pid);
        let _ = kill(pid, Signal::SIGINT);
        if let Ok(fd) = imperator_sys::fork::pidfd(pid) {
            let timeout = PollTimeout::try_from(patience_ms.min(1 << 30)).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
        }
        if !waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn start(&mut self, settings: &Settings, binary: &Path, argv: &[String], pause: Duration) -> anyhow::Result<()> {
        let master = nix::unistd::getpid();
        let (ours, theirs) = SeqPacket::pair().context("socketpair")?;
        ours.set_nonblocking(true)?;
        match process::fork().context("fork of the emperor")? {
            Fork::Parent(pid) => {
                let running = Running {
                    pid: pid.as_raw(),
                    since_ms: monotonic_ms(),
                    settings: settings.clone(),
                    binary: binary.into(),
                    argv: argv.into(),
                    channel: None,
                };
                self.running = Some(running);
                self.channel = Some(ours);
                Ok(())
            }
            Fork::Child => {
                let Err(error) = prepare(master, pause).and_then(|()| become_emperor(settings, binary, argv, master, &theirs));
                tracing::error!("the emperor cannot be started: {error:#}");
                process::exit_now(1)
            }
        }
    }
}

/// Tells the running one; whether that was possible.
fn goes_by(channel: &Option<SeqPacket>, settings: &Settings) -> bool {
    let told =
        channel.as_ref().map(|channel| channel.send(&GoBy, &[boot(settings, nix::unistd::getpid())?.as_fd()]).map_err(anyhow::Error::from));
    matches!(told, Some(Ok(())))
}

/// What [`crate::below::boot`] reads.
fn boot(settings: &Settings, master: Pid) -> anyhow::Result<File> {
    let boot = Boot {
        role: Role::Emperor,
        settings: settings.clone(),
        generation: 1,
        listeners: vec![],
        scoreboard: -1,
        caches: vec![],
        control: None,
        request_log: None,
        drop: None,
        metrics: None,
        master_pid: master.as_raw(),
        started_at: 0,
    };
    let mut file = File::from(memfd_create("imperator-boot", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&boot)?)?;
    file.rewind()?;
    Ok(file)
}

/// Whether an emperor that runs with `old` may stay.
fn concerns(old: &Settings, new: &Settings) -> bool {
    old.emperor == new.emperor && old.hooks == new.hooks && old.privileges == new.privileges && old.stats.http == new.stats.http
}

/// Whatever happens during the pause, a signal or the master's death ends the child.
fn prepare(master: Pid, pause: Duration) -> anyhow::Result<()> {
    nix::sys::prctl::set_name(c"emperor")?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    anyhow::ensure!(nix::unistd::getppid() == master, "the master is gone");
    spawn::default_signals()?;
    process::cloexec_from_3()?;
    std::thread::sleep(pause);
    Ok(())
}

fn become_emperor(
    settings: &Settings,
    binary: &Path,
    argv: &[String],
    master: Pid,
    channel: &SeqPacket,
) -> anyhow::Result<std::convert::Infallible> {
    let file = boot(settings, master)?;
    process::set_cloexec(channel.as_fd(), false)?;
    process::set_cloexec(file.as_fd(), false)?;
    let ours = |(name, _): &(String, String)| {
        name != BOOT_ENV && name != FD_ENV && name != super::above::FD_ENV && name != crate::master::STATE_ENV
    };
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).filter(ours);
    let env = env
        .map(|(name, value)| format!("{name}={value}"))
        .chain([format!("{BOOT_ENV}={}", file.as_raw_fd()), format!("{FD_ENV}={}", channel.as_fd().as_raw_fd())]);
    let env = env.map(CString::new).collect::<Result<Vec<_>, _>>()?;
    let argv = argv.iter().map(|a| CString::new(a.as_str())).collect::<Result<Vec<_>, _>>()?;
    let program = CString::new(binary.to_str().context("the executable's path is no UTF-8")?)?;
    nix::unistd::execve(&program, &argv, &env).with_context(|| format!("cannot execute {}", binary.display()))
}
