//! The emperor executes its own binary anew (`imperator upgrade`, SIGUSR2, or its own emperor's word to reload): after an upgrade on disk or a change of
//! its own options. Vassals run on, and notice nothing: pipes, sockets and what is known of them go along.

use std::ffi::CString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use imperator_sys::process;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::BOOT_ENV;
use imperator_worker::settings::{Emperor, Settings};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::Asked;
use super::command::Door;
use super::core::{Core, Kept, Key};
use super::dashboard::Dashboard;
use super::demand::Demand;
use super::poller::What;
use super::setup::own_program;
use super::shell::{Shell, configuration, now};
use crate::config::Mode;

/// Names the descriptor with the [`State`].
const STATE_ENV: &str = "IMPERATOR_EMPEROR_STATE";

/// Everything that the next life goes on with. Fields that a newer version adds need defaults: an upgrade reads what the old one wrote.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    core: Kept,
    /// The `emperor` lines.
    sources: Vec<String>,
    pipes: Vec<(Key, i32)>,
    /// Channels for questions, and whether the vassal answers.
    asks: Vec<(Key, i32, bool)>,
    configs: Vec<(Key, i32)>,
    taps: Vec<(Key, i32)>,
    /// What vassals said last.
    lines: Vec<(Key, Vec<String>)>,
    /// On-demand sockets: address, and the file that goes with them.
    demands: Vec<(Key, i32, String, Option<PathBuf>)>,
    pub doors: Vec<(Door, i32, String)>,
    pub stats: Option<(i32, String)>,
    pub logs: Vec<(String, i32)>,
    pub since: i64,
    pub descriptors: Option<(u64, u64)>,
    /// Over which our own emperor speaks.
    above: Option<i32>,
    /// Over which it asks.
    #[serde(default)]
    asked: Option<i32>,
    /// Over which the master of our instance sends other settings.
    #[serde(default)]
    instance: Option<i32>,
    /// After a reload: the options by which vassals were started.
    #[serde(default)]
    mould: Option<Value>,
}

/// Why there is to be a next life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Vassals that run keep what they were started with.
    Upgrade,
    /// Those that would be started in another way are started anew.
    Reload,
}

/// The options that make the way in which vassals are started.
fn mould(settings: &Settings) -> Value {
    let Emperor { tyrant, tyrant_initgroups, magic_exec, vassal_set, include, include_before, inherit, inherit_before, .. } =
        &settings.emperor;
    let Emperor { wrapper, wrapper_attr, chdir_attr, wrapper_override, wrapper_fallback, start_hook, use_clone, cap, isolation, .. } =
        &settings.emperor;
    json!([
        [tyrant, tyrant_initgroups, magic_exec],
        [vassal_set, include, include_before, inherit, inherit_before, wrapper_override, wrapper_fallback],
        [wrapper, wrapper_attr, chdir_attr, start_hook, use_clone, cap],
        isolation,
        settings.hooks,
        settings.emperor.vassal_log.as_deref() == Some("inherit"),
    ])
}

impl State {
    /// What the life before left; `None`: this is the first.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn receive() -> anyhow::Result<Option<Self>> {
        let Ok(number) = std::env::var(STATE_ENV) else { return Ok(None) };
        imperator_sys::environ::unset(STATE_ENV.as_ref())?;
        let file = File::from(take(number.parse().with_context(|| format!("{STATE_ENV}={number}"))?)?);
        serde_json::from_reader(std::io::BufReader::new(file)).context("what the emperor of before knew").map(Some)
    }

    /// A listener of before, if the address is still the same.
    pub fn door(&self, door: Door, address: &str) -> anyhow::Result<Option<OwnedFd>> {
        self.doors.iter().find(|(d, _, a)| *d == door && a == address).map(|(_, fd, _)| take(*fd)).transpose()
    }

    pub fn stats(&self, address: &str) -> anyhow::Result<Option<OwnedFd>> {
        self.stats.as_ref().filter(|(_, a)| a == address).map(|(fd, _)| take(*fd)).transpose()
    }

    /// Descriptors of the logs.
    pub fn logs(&self) -> anyhow::Result<Vec<(String, OwnedFd)>> {
        self.logs.iter().map(|(name, fd)| Ok((name.clone(), take(*fd)?))).collect()
    }

    fn descriptors(&self) -> impl Iterator<Item = i32> {
        let of = |list: &[(Key, i32)]| list.iter().map(|(_, fd)| *fd).collect::<Vec<_>>();
        let asks = self.asks.iter().map(|(_, fd, _)| *fd);
        let demands = self.demands.iter().map(|(_, fd, ..)| *fd);
        let doors = self.doors.iter().map(|(_, fd, _)| *fd);
        let mut all = [of(&self.pipes), of(&self.configs), of(&self.taps)].concat();
        all.extend(asks.chain(demands).chain(doors));
        all.extend(
            self.stats
                .iter()
                .map(|(fd, _)| *fd)
                .chain(self.logs.iter().map(|(_, fd)| *fd))
                .chain(self.above)
                .chain(self.asked)
                .chain(self.instance),
        );
        all.into_iter()
    }
}

fn take(fd: i32) -> anyhow::Result<OwnedFd> {
    process::take_inherited(fd).with_context(|| format!("descriptor {fd} of the emperor of before"))
}

impl Shell {
    /// Becomes the next life of this emperor. Returns only if that is not possible: nothing has changed then.
    /// `boot`: the settings of an emperor that is part of an instance.
    pub(super) fn become_next(&mut self, cause: Cause, boot: Option<OwnedFd>) -> anyhow::Error {
        let error = self.try_to_become_next(cause, boot).err().unwrap_or_else(|| anyhow::anyhow!("exec returned"));
        tracing::error!("[emperor] {cause:?} refused, nothing changes: {error:#}");
        error
    }

    /// What speaks against it.
    pub(super) fn check_upgrade(&self) -> anyhow::Result<()> {
        ensure!(self.is_first, "this emperor is part of an instance: reload that");
        ensure!(!self.core.is_ending(), "the emperor ends");
        let loaded = configuration(&self.first_dir).map_err(|error| anyhow::anyhow!("the configuration has errors:\n{error}"))?;
        ensure!(loaded.mode == Mode::Emperor, "by its configuration this is no emperor any more, or one with an app of its own");
        Ok(())
    }

    fn try_to_become_next(&mut self, cause: Cause, boot: Option<OwnedFd>) -> anyhow::Result<()> {
        match &boot {
            None => self.check_upgrade()?,
            Some(boot) => {
                ensure!(!self.core.is_ending(), "the emperor ends");
                process::set_cloexec(boot.as_fd(), false)?;
            }
        }
        tracing::info!("[emperor] executes its binary anew; vassals run on");
        let state = State { mould: (cause == Cause::Reload).then(|| mould(&self.settings)), ..self.state() };
        let mut file = File::from(memfd_create("imperator-emperor", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&state)?)?;
        file.rewind()?;
        let mark = |cloexec| state.descriptors().for_each(|fd| drop(process::set_cloexec_of(fd, cloexec)));
        mark(false);
        process::set_cloexec(file.as_fd(), false)?;
        let here = std::env::current_dir();
        self.sources.iter().for_each(|source| source.release());
        let result = self.execute(file.as_raw_fd(), boot.as_ref().map(AsRawFd::as_raw_fd));
        mark(true);
        if let Ok(here) = here {
            let _ = std::env::set_current_dir(here);
        }
        result
    }

    fn execute(&self, state: i32, boot: Option<i32>) -> anyhow::Result<()> {
        std::env::set_current_dir(&self.first_dir).with_context(|| format!("chdir {}", self.first_dir.display()))?;
        let pair = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            CString::new([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()
        };
        let mut environment: Vec<CString> = std::env::vars_os().filter_map(pair).collect();
        environment.push(CString::new(format!("{STATE_ENV}={state}"))?);
        environment.extend(boot.map(|fd| CString::new(format!("{BOOT_ENV}={fd}"))).transpose()?);
        let arguments: Vec<CString> = std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
        let program = own_program();
        let Err(error) = nix::unistd::execve(&CString::new(program.clone().into_vec())?, &arguments, &environment);
        Err(error).with_context(|| format!("cannot execute {}", program.to_string_lossy()))
    }

    fn state(&self) -> State {
        let raw = |fds: &std::collections::BTreeMap<Key, OwnedFd>| fds.iter().map(|(key, fd)| (key.clone(), fd.as_raw_fd())).collect();
        State {
            core: self.core.keep(),
            sources: self.settings.emperor.sources.clone(),
            pipes: raw(&self.pipes),
            asks: self.inquiry.held().map(|(key, fd, speaks)| (key.clone(), fd, speaks)).collect(),
            configs: raw(&self.configs),
            taps: self.taps.held().map(|(key, fd)| (key.clone(), fd)).collect(),
            lines: self.taps.lines().collect(),
            demands: self.demands.iter().map(|(key, d)| (key.clone(), d.fd.as_raw_fd(), d.name.clone(), d.path.clone())).collect(),
            doors: self.clients.held().into_iter().chain(self.dashboard.iter().flat_map(Dashboard::held)).collect(),
            stats: self.stats.as_ref().zip(self.settings.emperor.stats.clone()).map(|(s, a)| (s.listener().as_raw_fd(), a)),
            logs: self.logs.iter().flat_map(|l| l.handover()).map(|(name, fd)| (name, fd.as_raw_fd())).collect(),
            since: self.since,
            descriptors: self.descriptors,
            above: self.above.as_ref().map(|a| a.fd().as_raw_fd()),
            asked: self.asked.as_ref().map(|asked| asked.fd().as_raw_fd()),
            instance: self.instance.as_ref().map(|i| i.as_fd().as_raw_fd()),
            mould: None,
        }
    }

    /// Takes over what the life before left.
    ///
    /// # Errors
    /// One of its descriptors is not there.
    pub(super) fn resume(&mut self, state: State) -> anyhow::Result<()> {
        let time = now();
        let lines = self.settings.emperor.sources.clone();
        let source = |old: usize| lines.iter().position(|line| Some(line) == state.sources.get(old));
        self.core = Core::resume(self.core.policy.clone(), state.core, time, source);
        for (key, fd) in state.pipes {
            let pipe = take(fd)?;
            self.poller.readable(pipe.as_fd(), What::Pipe(key.clone()))?;
            self.pipes.insert(key, pipe);
        }
        for (key, fd, speaks) in state.asks {
            self.inquiry.join(key.clone(), SeqPacket::from_fd(take(fd)?), speaks)?;
            if let Some(fd) = self.inquiry.fd(&key) {
                self.poller.readable(fd, What::Said(key.clone()))?;
            }
        }
        for (key, fd) in state.configs {
            self.configs.insert(key, take(fd)?);
        }
        for (key, fd, name, path) in state.demands {
            let fd = take(fd)?;
            if self.core.is_asleep(&key) {
                self.poller.readable(fd.as_fd(), What::Demand(key.clone()))?;
            }
            self.demands.insert(key, Demand { name, fd, path });
        }
        self.taps.remember(state.lines);
        for (key, fd) in state.taps {
            let fd = take(fd)?;
            self.tap(&key, fd)?;
        }
        self.since = state.since;
        self.descriptors = state.descriptors;
        if let Some(fd) = state.asked {
            self.be_asked(Asked::new(take(fd)?))?;
        }
        if let Some(fd) = state.instance {
            self.join_instance(SeqPacket::from_fd(take(fd)?))?;
        }
        if state.mould.is_some_and(|old| old != mould(&self.settings)) {
            let actions = self.core.restart_all(time, "the emperor's options for its vassals are others now");
            self.act(actions);
        }
        Ok(())
    }
}
