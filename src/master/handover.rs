//! Everything that lives through a reload's exec: as JSON in a memfd, with the numbers of the descriptors that stay open.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use imperator_sys::process;
use imperator_worker::control::App;
use imperator_worker::settings::Settings;
use serde::{Deserialize, Serialize};

use super::decide::Instance;
use crate::identity::Vacuum;
use crate::sockets::Label;

/// The state of a master between two lives. Fields that a newer version adds need defaults: an upgrade reads what the old one wrote.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub instance: Instance,
    pub generations: Vec<Held>,
    pub brutal: bool,
    pub reloads: u64,
    pub started_at: u64,
    pub binary: PathBuf,
    /// The emperor's pipe, if this is a vassal.
    #[serde(default)]
    pub emperor: Option<i32>,
    /// Over which the emperor asks.
    #[serde(default)]
    pub asked: Option<i32>,
    /// Words to reload that came over the emperor's pipe.
    #[serde(default)]
    pub reloads_heard: u64,
    /// Over which the emperor sends the configuration.
    #[serde(default)]
    pub emperor_config: Option<i32>,
    /// What it has sent: it was asked for it once already.
    #[serde(default)]
    pub emperor_text: Option<Vec<u8>>,
    #[serde(default)]
    pub vacuum: Vacuum,
    /// The emperor that is part of this instance.
    #[serde(default)]
    pub inside: Option<crate::emperor::inside::Running>,
    #[serde(default)]
    pub logs: Vec<(String, i32)>,
    /// Listeners of the stats server, Prometheus' and health's.
    #[serde(default)]
    pub answers: super::answers::Held,
    /// The segment of metrics, and whose its cells are.
    #[serde(default)]
    pub metrics: Option<(i32, Vec<String>)>,
    /// What `zerg-server` and `zerg-pool` listen on and hand out.
    #[serde(default)]
    pub zerg: super::zerg::Kept,
    #[serde(default)]
    pub daemons: Vec<super::daemons::KeptDaemon>,
    #[serde(default)]
    pub crons: Vec<super::crons::Entry>,
    /// What changes of caches are taken on.
    #[serde(default)]
    pub cache_peers: super::caching::KeptPeers,
    #[serde(default)]
    pub tally: super::tally::Tally,
    /// Descriptors that we were started with: their first number, and what it is now.
    #[serde(default)]
    pub descriptors: Vec<(i32, i32)>,
}

/// One generation's descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Held {
    pub number: u64,
    pub settings: Settings,
    pub listeners: Vec<(i32, Label)>,
    pub scoreboard: i32,
    pub zygote: Option<i32>,
    pub workers: BTreeMap<u32, i32>,
    pub apps: Vec<App>,
    pub language: String,
    #[serde(default)]
    pub born: BTreeMap<u32, u64>,
    #[serde(default)]
    pub caches: Vec<Option<i32>>,
}

impl State {
    fn descriptors(&self) -> Vec<i32> {
        let of = |held: &Held| {
            let listeners = held.listeners.iter().map(|(fd, _)| *fd);
            listeners
                .chain([held.scoreboard])
                .chain(held.zygote)
                .chain(held.workers.values().copied())
                .chain(held.caches.iter().flatten().copied())
                .collect::<Vec<_>>()
        };
        self.generations
            .iter()
            .flat_map(of)
            .chain(self.emperor)
            .chain(self.asked)
            .chain(self.emperor_config)
            .chain(self.inside.as_ref().and_then(|running| running.channel))
            .chain(self.logs.iter().map(|(_, fd)| *fd))
            .chain(self.answers.iter().map(|(_, fd, _)| *fd))
            .chain(self.metrics.as_ref().map(|(fd, _)| *fd))
            .chain(self.zerg.descriptors())
            .chain(self.cache_peers.iter().map(|(fd, _, _)| *fd))
            .chain(self.descriptors.iter().map(|(_, fd)| *fd))
            .collect()
    }
}

/// Makes the descriptors survive the exec and executes `binary` with `argv`. Returns only if that fails, with everything as before.
pub fn exec(state: &State, argv: &[String], env: &[(String, String)]) -> anyhow::Error {
    let failed = try_exec(state, argv, env).err().unwrap_or_else(|| anyhow::anyhow!("exec returned"));
    mark(state, true);
    failed
}

fn try_exec(state: &State, argv: &[String], env: &[(String, String)]) -> Result<()> {
    let memfd = super::spawn::memfd("imperator-state", &serde_json::to_vec(state)?)?;
    let program = std::ffi::CString::new(state.binary.to_str().context("the executable's path is no UTF-8")?)?;
    let argv = argv.iter().map(|a| std::ffi::CString::new(a.as_str())).collect::<Result<Vec<_>, _>>()?;
    let extra = format!("{}={}", super::STATE_ENV, memfd.as_fd().as_raw_fd());
    let kept = env.iter().filter(|(key, _)| key != super::STATE_ENV).map(|(k, v)| format!("{k}={v}"));
    let env = kept.chain([extra]).map(std::ffi::CString::new).collect::<Result<Vec<_>, _>>()?;
    process::set_cloexec(memfd.as_fd(), false)?;
    mark(state, false);
    nix::unistd::execve(&program, &argv, &env).with_context(|| format!("cannot execute {}", state.binary.display()))?;
    Ok(())
}

fn mark(state: &State, cloexec: bool) {
    for fd in state.descriptors() {
        let _ = process::set_cloexec_of(fd, cloexec);
    }
}

/// Reads what the life before left. The descriptors in it are to be taken with [`take`].
pub fn receive(number: &str) -> Result<State> {
    let fd = number.parse().context("the number of the state's descriptor")?;
    let file = std::fs::File::from(process::take_inherited(fd)?);
    serde_json::from_reader(std::io::BufReader::new(file)).context("the state of the running generations")
}

/// One of the state's descriptors.
pub fn take(fd: i32) -> Result<OwnedFd> {
    process::take_inherited(fd).with_context(|| format!("descriptor {fd} of the state"))
}

/// The segment of metrics.
pub fn metrics((fd, names): (i32, Vec<String>)) -> Result<imperator_worker::metrics::Metrics> {
    imperator_worker::metrics::Metrics::open(take(fd)?, names).context("the metrics of the state")
}
