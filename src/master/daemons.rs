//! Attached daemons: doing what [`super::decide::Watched`] says.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use imperator_sys::fork::pidfd;
use imperator_sys::process::monotonic_ms;
use imperator_worker::log::diag::say;
use imperator_worker::settings::{Daemon, Settings};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::decide::{DaemonAct, DaemonEvent, DaemonLife, Event, Haste, Ms, Rule, Watched};
use super::helper::Helper;
use super::poll::Source;
use super::running::{Master, send_signal_to_group};
use crate::stats::DaemonRow;

/// All that there are.
#[derive(Default)]
pub struct Daemons {
    entries: Vec<Entry>,
}

struct Entry {
    definition: Daemon,
    watched: Watched,
    /// The configuration has no such line any more.
    forgotten: bool,
    /// Of one that was found by its pidfile.
    pidfd: Option<OwnedFd>,
}

/// One that lives through a reload's exec.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptDaemon {
    definition: Daemon,
    watched: Watched,
}

impl Daemons {
    /// What statistics say of them.
    pub fn rows(&self) -> Vec<DaemonRow> {
        let row = |e: &Entry| DaemonRow {
            cmd: e.definition.command.clone(),
            pid: e.watched.pid().unwrap_or(0),
            respawns: e.watched.starts.saturating_sub(1),
        };
        self.entries.iter().filter(|e| !e.forgotten).map(row).collect()
    }

    pub fn next_deadline(&self) -> Option<Ms> {
        self.entries.iter().filter_map(|e| e.watched.next_deadline()).min()
    }

    pub fn handover(&self) -> Vec<KeptDaemon> {
        let lives = self.entries.iter().filter(|e| e.watched.life != DaemonLife::Off);
        lives.map(|e| KeptDaemon { definition: e.definition.clone(), watched: e.watched.clone() }).collect()
    }

    /// Whose `pid` that is.
    fn of_pid(&self, pid: i32) -> Option<usize> {
        self.entries.iter().position(|e| e.watched.pid() == Some(pid))
    }
}

impl Master {
    /// Those of the life before go on until the new configuration serves.
    pub(super) fn resume_daemons(&mut self, kept: Vec<KeptDaemon>) {
        for KeptDaemon { definition, mut watched } in kept {
            // What is no child of ours may have ended meanwhile: its pidfile is read again.
            let look = matches!(watched.life, DaemonLife::Running { child: false, .. } | DaemonLife::Checking);
            if look {
                watched.life = DaemonLife::Checking;
            }
            self.daemons.entries.push(Entry { definition, watched, forgotten: false, pidfd: None });
            if look {
                self.look_for_daemon(self.daemons.entries.len() - 1);
            }
        }
    }

    /// A configuration serves from now on: its daemons run, and no others.
    pub(super) fn settle_daemons(&mut self, settings: &Settings) {
        let mut wanted = settings.background.daemons.clone();
        for index in 0..self.daemons.entries.len() {
            let place = wanted.iter().position(|d| *d == self.daemons.entries[index].definition);
            place.map(|place| wanted.remove(place));
            self.daemons.entries[index].forgotten = place.is_none();
            self.tell_daemon(index, DaemonEvent::Reload { kept: place.is_some() });
            if place.is_some() {
                self.tell_daemon(index, DaemonEvent::Start);
            }
        }
        for definition in wanted {
            self.daemons.entries.push(Entry { definition, watched: Watched::default(), forgotten: false, pidfd: None });
            self.tell_daemon(self.daemons.entries.len() - 1, DaemonEvent::Start);
        }
    }

    pub(super) fn daemons_due(&mut self) {
        let now = monotonic_ms();
        for index in 0..self.daemons.entries.len() {
            if self.daemons.entries[index].watched.next_deadline().is_some_and(|at| at <= now) {
                self.tell_daemon(index, DaemonEvent::Tick);
            }
        }
    }

    /// Everything else has ended: whether the daemons have, too. They are asked to, the more pressingly the more the instance is.
    pub(super) fn daemons_ended(&mut self) -> bool {
        for index in 0..self.daemons.entries.len() {
            let mercy = self.daemon_rule(index).mercy;
            let mercy = self.instance.ending.as_ref().map_or(mercy, |ending| ending.mercy(mercy));
            self.tell_daemon(index, DaemonEvent::Stop { mercy });
        }
        self.daemons.entries.iter().all(|e| e.watched.life == DaemonLife::Off)
    }

    /// A child has ended: whether it was one of these.
    pub(super) fn daemon_ended(&mut self, pid: i32) -> bool {
        let Some(index) = self.daemons.of_pid(pid) else { return false };
        self.drop_pidfd(index);
        self.tell_daemon(index, DaemonEvent::Gone(pid));
        true
    }

    /// One that is no child of ours has ended.
    pub(super) fn on_daemon(&mut self, index: u32) {
        let Some(pid) = self.daemons.entries.get(index as usize).and_then(|e| e.watched.pid()) else { return };
        self.daemon_ended(pid);
    }

    pub(super) fn daemon_touched(&mut self, definition: &Daemon) {
        for index in 0..self.daemons.entries.len() {
            if self.daemons.entries[index].definition == *definition {
                self.tell_daemon(index, DaemonEvent::Touched);
            }
        }
    }

    fn drop_pidfd(&mut self, index: usize) {
        if let Some(fd) = self.daemons.entries.get_mut(index).and_then(|e| e.pidfd.take()) {
            self.poll.remove(&fd);
        }
    }

    fn daemon_rule(&self, index: usize) -> Rule {
        let daemon = &self.daemons.entries[index].definition;
        let mercy = self.last_settings.as_ref().map_or(30, |s| s.reload.mercy);
        let seconds = |s: u32| Ms::from(s) * 1000;
        Rule {
            smart: daemon.pidfile.is_some(),
            control: daemon.control,
            notify: daemon.notify,
            stop_signal: daemon.stop_signal,
            reload_signal: daemon.reload_signal,
            longest_pause: seconds(daemon.max_throttle),
            patience: seconds(daemon.freq),
            mercy: seconds(mercy),
        }
    }

    fn tell_daemon(&mut self, index: usize, event: DaemonEvent) {
        let rule = self.daemon_rule(index);
        for act in self.daemons.entries[index].watched.on(&rule, event, monotonic_ms()) {
            match act {
                DaemonAct::Spawn => self.start_daemon(index),
                DaemonAct::Look => self.look_for_daemon(index),
                DaemonAct::Signal { pid, signal, child } => self.signal_daemon(index, pid, signal, child),
                DaemonAct::EndInstance => {
                    say(&format!(
                        "[uwsgi-daemons] \"{}\" has ended, and the instance with it",
                        self.daemons.entries[index].definition.command
                    ));
                    self.tell(Event::Stop { haste: Haste::Graceful, code: 0 });
                }
                DaemonAct::Respawning { pid, pause } => say(&format!(
                    "[uwsgi-daemons] \"{}\" (pid: {pid}) has ended, it is started again in {pause} ms",
                    self.daemons.entries[index].definition.command
                )),
            }
        }
    }

    fn start_daemon(&mut self, index: usize) {
        let daemon = self.daemons.entries[index].definition.clone();
        let helper = Helper {
            command: &daemon.command,
            directory: daemon.chdir.as_deref(),
            inherit_stdin: daemon.stdin || self.last_settings.as_ref().is_some_and(|s| s.background.daemons_stdin),
            tied: daemon.pidfile.is_none(),
            background: daemon.pidfile.as_deref().filter(|_| daemon.daemonize),
            uid: daemon.uid.as_deref(),
            gid: daemon.gid.as_deref(),
            ns_pid: daemon.ns_pid,
            ..Helper::default()
        };
        match self.start_helper(&helper) {
            Ok(pid) => {
                say(&format!("[uwsgi-daemons] spawning \"{}\" (pid: {pid})", daemon.command));
                self.tell_daemon(index, DaemonEvent::Spawned(pid.as_raw()));
            }
            Err(error) => {
                say(&format!("[uwsgi-daemons] cannot start \"{}\": {error:#}", daemon.command));
                self.tell_daemon(index, DaemonEvent::SpawnFailed);
            }
        }
    }

    fn look_for_daemon(&mut self, index: usize) {
        let found = self.daemons.entries[index].definition.pidfile.clone().and_then(|path| running(&path));
        let event = match found {
            Some((pid, fd)) if self.poll.add(&fd, Source::Daemon(index as u32)).is_ok() => {
                self.daemons.entries[index].pidfd = Some(fd);
                DaemonEvent::Found(pid)
            }
            _ => DaemonEvent::Missing,
        };
        self.tell_daemon(index, event);
    }

    /// To the group of a child; to exactly that process where it is none, and might be another one by now.
    fn signal_daemon(&self, index: usize, pid: i32, signal: i32, child: bool) {
        if child {
            return send_signal_to_group(pid, signal);
        }
        if let (Some(fd), Ok(signal)) = (&self.daemons.entries[index].pidfd, Signal::try_from(signal)) {
            let _ = imperator_sys::fork::pidfd_signal(fd.as_fd(), signal);
        }
    }
}

/// The process that a pidfile names, if it runs. Whoever may write the file must not make us signal another's process: it counts only if
/// the file is ours, or the process belongs to the file's owner.
fn running(pidfile: &str) -> Option<(i32, OwnedFd)> {
    let pid: i32 = std::fs::read_to_string(pidfile).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
    let fd = pidfd(Pid::from_raw(pid)).ok()?;
    let (file, process) = (std::fs::metadata(pidfile).ok()?.uid(), std::fs::metadata(format!("/proc/{pid}")).ok()?.uid());
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit(')').next()?.trim_start().starts_with('Z');
    (!zombie && (file == nix::unistd::geteuid().as_raw() || file == process)).then_some((pid, fd))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfile_counts_while_its_process_runs() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().to_str().unwrap();
        for nonsense in ["", "x", "0", "1", "-5", "999999999"] {
            std::fs::write(path, nonsense)?;
            assert!(running(path).is_none(), "{nonsense}");
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
        std::fs::write(path, format!("{}\n", child.id()))?;
        assert_eq!(running(path).unwrap().0, child.id() as i32);
        child.kill()?;
        child.wait()?;
        assert!(running(path).is_none());
        Ok(())
    }
}
