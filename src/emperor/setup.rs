//! From the settings to a running emperor, and what remains to do at its end.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, bail};
use imperator_sys::seqpacket::SeqPacket;
use imperator_sys::spawn;
use imperator_worker::hooks::Hooks;
use imperator_worker::log::diag;
use imperator_worker::settings::{Emperor, Settings};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use super::Place;
use super::above::Above;
use super::aside::Asides;
use super::asked::Asked;
use super::command::{Door, Jobs, Limits, Server};
use super::core::{Core, Policy};
use super::dashboard::Dashboard;
use super::inquiry::{Inquiry, PATIENCE_BELOW_MS, PATIENCE_MS};
use super::inside::FD_ENV;
use super::outlet::Place as LogPlace;
use super::poller::{Poller, What};
use super::shell::{End, Shell};
use super::sources::{Monitor, Rules, monitor};
use super::taps::Taps;
use super::upgrade::State;
use super::watch::Watch;
use crate::identity::{Moment, Vacuum, write_pidfiles};
use crate::logs::Logs;
use crate::master::{Waiting, detach};
use crate::privileges;
use crate::sockets::Address;
use crate::stats::{StatsServer, Style};
use crate::systemd::{Phase, Systemd};

pub(super) fn govern(settings: &Settings, place: Place) -> anyhow::Result<i32> {
    diag::install(settings.log.date.as_deref());
    if let Place::Below { parent } = place {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")?;
        if nix::unistd::getppid().as_raw() != parent {
            return Ok(1);
        }
    }
    let first_dir = std::env::current_dir().context("the working directory")?;
    let is_vassal = std::env::var_os(super::above::FD_ENV).is_some();
    let life = State::receive()?;
    let instance = if life.is_none() { instance(place)? } else { None };
    let mut outfit = (place == Place::First).then(|| Outfit::put_on(settings, is_vassal, life.as_ref())).transpose()?;
    name_process(settings, place);
    let start_dir = std::env::current_dir().context("the working directory")?;
    let above = if place == Place::First { Above::from_environment()? } else { None };
    let handed = above.is_some();
    let asked = if handed && life.is_none() { Asked::from_environment() } else { None };
    let mut shell = prepare(settings, place, (&first_dir, &start_dir), above, life)?;
    if let Some(outfit) = &mut outfit {
        outfit.waiting.tell();
        shell.use_logs(outfit.logs.take())?;
    }
    if asked.is_some() {
        shell.be_asked(asked)?;
    }
    if let Some(instance) = instance {
        shell.join_instance(instance)?;
    }
    let pipe = if handed { shell.above.as_ref().map(|a| a.fd().try_clone_to_owned()).transpose()? } else { None };
    let questions = shell.asked.as_ref().map(|a| a.fd().try_clone_to_owned()).transpose()?;
    let sockets = shell.socket_files(&start_dir);
    let end = shell.run()?;
    clean_up(settings, &start_dir, &sockets);
    if let Some(outfit) = &outfit {
        outfit.take_off(settings);
    }
    match end {
        End::Exit(code) => Ok(code),
        End::Again => again(&first_dir, [(super::above::FD_ENV, pipe), (crate::ask::FD_ENV, questions)]),
    }
}

/// On a first start: over which the master of the instance that this is part of sends other settings.
fn instance(place: Place) -> anyhow::Result<Option<SeqPacket>> {
    let Some(number) = std::env::var(FD_ENV).ok().filter(|_| place != Place::First) else { return Ok(None) };
    imperator_sys::environ::unset(FD_ENV.as_ref())?; // it is not our vassals' matter
    let fd = number.parse().ok().and_then(|number| imperator_sys::process::take_inherited(number).ok());
    Ok(Some(SeqPacket::from_fd(fd.with_context(|| format!("{FD_ENV}={number}"))?)))
}

/// What an emperor that is nobody's child does for itself, as a master would: terminal, logs, pidfiles.
struct Outfit {
    waiting: Waiting,
    logs: Option<Logs>,
    vacuum: Vacuum,
}

impl Outfit {
    /// Leaves the terminal (not if this is a vassal: its emperor waits for this very process), opens the logs, goes where `chdir` says.
    fn put_on(settings: &Settings, is_vassal: bool, life: Option<&State>) -> anyhow::Result<Self> {
        let waiting = if is_vassal || life.is_some() { Waiting::default() } else { detach(settings)? };
        let logs = Logs::open(settings, life.map(State::logs).transpose()?.unwrap_or_default())?;
        if life.is_none() {
            Hooks::parse(&settings.hooks)?.run("asap")?;
        }
        if let Some(mask) = settings.socket_options.umask {
            umask(Mode::from_bits_truncate(mask));
        }
        if let Some(directory) = &settings.process.chdir {
            std::env::set_current_dir(directory).with_context(|| format!("chdir = {directory}"))?;
        }
        write_pidfiles(&settings.process, Moment::Early, std::process::id() as i32)?;
        let mut vacuum = Vacuum::default();
        vacuum.pidfiles(&settings.process);
        Ok(Self { waiting, logs: Some(logs), vacuum })
    }

    fn take_off(&self, settings: &Settings) {
        if !settings.process.vacuum {
            return;
        }
        for (path, error) in self.vacuum.run(std::process::id() as i32) {
            tracing::warn!("[emperor] cannot remove {}: {error}", path.display());
        }
    }
}

fn systemd() -> Option<Systemd> {
    let env: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    Systemd::new(|name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()), Phase::Starting)
}

fn name_process(settings: &Settings, place: Place) {
    let _ = nix::sys::prctl::set_name(c"emperor");
    let title = match (&settings.emperor.procname, place) {
        (Some(title), _) => Some(title.as_str()),
        (None, Place::Below { .. }) if settings.process.auto_procname => Some("uWSGI Emperor"),
        _ => None,
    };
    if let Some(title) = title
        && let Err(error) = imperator_sys::title::set_title(title.as_bytes())
    {
        tracing::warn!("[emperor] emperor-procname: {error}");
    }
}

fn prepare(
    settings: &Settings,
    place: Place,
    (first_dir, start_dir): (&Path, &Path),
    above: Option<Above>,
    life: Option<State>,
) -> anyhow::Result<Shell> {
    let options = &settings.emperor;
    let rules = Rules { extra: options.extra_extension.clone(), nofollow: options.nofollow, tyrant_nofollow: options.tyrant_nofollow };
    let sources = options.sources.iter().map(|line| monitor(line, start_dir, &rules, options.freq)).collect::<Result<Vec<_>, _>>()?;
    let hooks = Rc::new(Hooks::parse(&settings.hooks)?);
    let namespaces = clone_flags(options)?;
    let capabilities = options.cap.as_deref().map(bounding_set).transpose()?;
    if options.tyrant && !nix::unistd::geteuid().is_root() {
        tracing::warn!(
            "[emperor] emperor-tyrant: this process is not root and cannot become other users; vassals of others will not start"
        );
    }
    let stats = options.stats.as_deref().map(|address| stats_server(settings, address, life.as_ref())).transpose()?;
    let clients = doors(options, life.as_ref())?;
    let dashboard = dashboard(settings, life.as_ref())?;
    if let Some(path) = &options.pidfile {
        std::fs::write(path, format!("{}\n", std::process::id())).with_context(|| format!("emperor-pidfile {path}"))?;
    }
    enter(&sources, options.tyrant);
    let is_first = place == Place::First;
    let phase = |name: &str, when: bool| if when && life.is_none() { hooks.run(name).map(drop) } else { Ok(()) };
    phase("emperor-start", hooks.any("emperor-start"))?;
    phase("pre-jail", is_first)?;
    phase("as-root", is_first)?;
    drop_root(settings, place)?;
    // What may be demanded depends on who this is from here on.
    let isolation = privileges::Policy::of(settings)?;
    phase("as-user", is_first)?;
    if is_first {
        write_pidfiles(&settings.process, Moment::Later, std::process::id() as i32)?;
    }
    let signals = catch_signals()?;
    let watch =
        Watch::new().inspect_err(|e| tracing::warn!("[emperor] no inotify ({e}): files are looked at every emperor-freq seconds")).ok();
    let is_vassal = above.is_some();
    let systemd = if place == Place::First { systemd() } else { None };
    let mut shell = Shell {
        settings: Rc::new(settings.clone()),
        rules,
        hooks,
        core: Core::new(policy(settings)),
        poller: Poller::new()?,
        signals,
        troubles: vec![None; sources.len()],
        sources,
        watch,
        pipes: BTreeMap::new(),
        demands: BTreeMap::new(),
        answers: BTreeMap::new(),
        asides: Asides::default(),
        stats,
        taps: Taps::new(log_place(settings, start_dir), u64::from(options.vassal_log_limit) * 1024),
        inquiry: Inquiry::new(if is_vassal { PATIENCE_BELOW_MS } else { PATIENCE_MS }),
        clients,
        jobs: Jobs::default(),
        dashboard,
        configs: BTreeMap::new(),
        source_fds: BTreeMap::new(),
        is_first,
        chatter: BTreeMap::new(),
        since: super::shell::now().seconds(),
        descriptors: raise_descriptors(),
        above,
        asked: None,
        instance: None,
        systemd,
        program: own_program(),
        namespaces,
        isolation,
        capabilities,
        scan_at: 0,
        start_dir: start_dir.into(),
        first_dir: first_dir.into(),
        end: End::Exit(0),
        logs: None,
    };
    shell.listen_to_all()?;
    if let Some(state) = life {
        shell.resume(state)?;
    }
    tracing::info!("[emperor] governing {} (pid {})", options.sources.join(", "), std::process::id());
    Ok(shell)
}

impl Shell {
    /// Listens to the questions of our own emperor.
    pub(super) fn be_asked(&mut self, asked: Option<Asked>) -> nix::Result<()> {
        self.asked = asked;
        self.asked.as_ref().map_or(Ok(()), |asked| self.poller.readable(asked.fd(), What::Asked))
    }

    /// Listens to the master of our instance.
    pub(super) fn join_instance(&mut self, master: SeqPacket) -> anyhow::Result<()> {
        use std::os::fd::AsFd;
        master.set_nonblocking(true)?;
        self.poller.readable(master.as_fd(), What::Instance)?;
        self.instance = Some(master);
        Ok(())
    }

    /// What is in the file system for those who ask us.
    fn socket_files(&self, start_dir: &Path) -> Vec<PathBuf> {
        let address = self.settings.emperor.stats.as_deref().map(Address::parse);
        let stats = if let Some(Ok(Address::Unix(path))) = address { Some(start_dir.join(path)) } else { None };
        let dashboard = self.dashboard.iter().flat_map(Dashboard::paths);
        self.clients.paths().chain(dashboard).map(Path::to_path_buf).chain(stats).collect()
    }

    /// The log master's lines are taken in our loop.
    fn use_logs(&mut self, logs: Option<Logs>) -> nix::Result<()> {
        use std::os::fd::AsFd;
        self.logs = logs;
        self.logs.as_ref().map_or(Ok(()), |logs| self.poller.readable(logs.as_fd(), What::Logs))
    }

    fn listen_to_all(&mut self) -> nix::Result<()> {
        use std::os::fd::AsFd;
        self.poller.readable(self.signals.as_fd(), What::Signals)?;
        if let Some(watch) = &self.watch {
            self.poller.readable(watch.fd(), What::Sources)?;
        }
        if let Some(stats) = &self.stats {
            self.poller.readable(stats.as_fd(), What::Stats)?;
        }
        self.poller.readable(self.clients.fd(), What::Clients)?;
        if let Some(dashboard) = &self.dashboard {
            self.poller.readable(dashboard.fd(), What::Dashboard)?;
        }
        if let Some(above) = &self.above {
            self.poller.readable(above.fd(), What::Above)?;
            above.report();
        }
        Ok(())
    }
}

fn policy(settings: &Settings) -> Policy {
    let options = &settings.emperor;
    let seconds = |n: u32| u64::from(n) * 1000;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Policy {
        throttle_ms: options.throttle_ms.into(),
        max_throttle_ms: options.max_throttle_ms.into(),
        no_blacklist: options.no_blacklist,
        curse_tolerance_ms: seconds(options.curse_tolerance),
        end_mercy_ms: seconds(settings.reload.mercy),
        graceful: options.graceful_shutdown,
        required_heartbeat_ms: seconds(options.required_heartbeat),
        tyrant: options.tyrant,
        on_demand: options.on_demand_extension.is_some()
            || options.on_demand_directory.is_some()
            || options.on_demand_exec.is_some()
            || options.sources.iter().any(|line| line.starts_with("pg://")), // which may name a socket
        broodlord: options.broodlord,
        parallel_starts: (2 * cores).max(8),
    }
}

fn stats_server(settings: &Settings, address: &str, life: Option<&State>) -> anyhow::Result<StatsServer> {
    let style = if settings.stats.http { Style::Http } else { Style::Bare };
    match life.map(|state| state.stats(address)).transpose()?.flatten() {
        Some(kept) => Ok(StatsServer::adopt(kept, style)?),
        None => Ok(StatsServer::bind("emperor-stats", address, style)?),
    }
}

/// An emperor whose vassals run already does not end for want of a web page.
fn dashboard(settings: &Settings, life: Option<&State>) -> anyhow::Result<Option<Dashboard>> {
    match Dashboard::open(settings, life) {
        Err(error) if life.is_some() => {
            tracing::error!("[emperor] no dashboard until the emperor is started anew: {error:#}");
            Ok(None)
        }
        result => result,
    }
}

/// Where operators and programs may ask.
fn doors(options: &Emperor, life: Option<&State>) -> anyhow::Result<Server> {
    let mut server = Server::new(Limits::OPERATORS)?;
    let wanted = [(Door::Command, &options.command_socket, Some(0o600)), (Door::Prometheus, &options.stats_prometheus, None)];
    for (door, address, mode) in wanted {
        if let Some(address) = address {
            server.open(door, address, mode, life.map(|state| state.door(door, address)).transpose()?.flatten())?;
        }
    }
    Ok(server)
}

fn log_place(settings: &Settings, start_dir: &Path) -> LogPlace {
    LogPlace::parse(settings.emperor.vassal_log.as_deref(), settings.emperor.vassal_log_maxsize, start_dir)
}

/// Three descriptors a vassal are more than the usual limit for a few hundred of them. What vassals get is the limit of before.
fn raise_descriptors() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some((soft, hard))
}

fn clone_flags(options: &Emperor) -> anyhow::Result<CloneFlags> {
    match options.use_clone.as_deref().map(spawn::namespaces) {
        None => Ok(CloneFlags::empty()),
        Some(Ok(flags)) => Ok(flags),
        Some(Err(name)) => bail!("emperor-use-clone: there is no namespace {name:?}; known are fs, ipc, net, pid, uts, user, cgroup"),
    }
}

/// setpcap stays, so that a vassal can limit itself with `cap`.
fn bounding_set(list: &str) -> anyhow::Result<Vec<u32>> {
    let unknown = |name| {
        anyhow::anyhow!("vassal-cap: there is no capability {name:?}; names are those of capabilities(7), lower case and without cap_")
    };
    let mut keep = spawn::capabilities(list).map_err(unknown)?;
    keep.extend(spawn::capabilities("setpcap").map_err(unknown)?);
    Ok(keep)
}

/// Goes into each source's directory, as uWSGI does (the last one counts), and warns of those that everybody can write to.
fn enter(sources: &[Box<dyn Monitor>], tyrant: bool) {
    for source in sources {
        let directory = source.directory();
        if let Err(error) = std::env::set_current_dir(&directory)
            && directory.exists()
        {
            tracing::warn!("[emperor] cannot go into {}: {error}", directory.display());
        }
        if !tyrant && nix::unistd::geteuid().is_root() && is_writable_by_others(&directory) {
            tracing::warn!(
                "[emperor] others than root can write to {}: whoever can is root here; use emperor-tyrant or change its mode",
                directory.display()
            );
        }
    }
}

fn is_writable_by_others(directory: &Path) -> bool {
    std::fs::metadata(directory).is_ok_and(|m| m.mode() & 0o002 != 0 || (m.mode() & 0o020 != 0 && m.gid() != 0) || m.uid() != 0)
}

/// `uid` and `gid` of an emperor: its vassals start as that user. Not with `early-emperor`, which comes before the drop in uWSGI, nor in tyrant
/// mode, which cannot become other users without root.
fn drop_root(settings: &Settings, place: Place) -> anyhow::Result<()> {
    let wanted = &settings.privileges;
    if !nix::unistd::geteuid().is_root() || settings.emperor.early || (wanted.uid.is_none() && wanted.gid.is_none()) {
        return Ok(());
    }
    if settings.emperor.tyrant {
        tracing::warn!("[emperor] uid and gid are not for the emperor itself in tyrant mode: it stays root");
        return Ok(());
    }
    let user = wanted.uid.as_deref().map(privileges::user).transpose().context("uid")?;
    if let Some(group) = &wanted.gid {
        let (_, gid) = privileges::owner(&format!("0:{group}")).context("gid")?;
        nix::unistd::setgid(gid.context("gid: no group")?).context("setgid")?;
    }
    if let Some((uid, account)) = user.filter(|(uid, _)| !uid.is_root()) {
        match account.filter(|_| !wanted.no_initgroups) {
            Some(account) => nix::unistd::initgroups(&CString::new(account.name)?, nix::unistd::getgid()).context("initgroups")?,
            None => nix::unistd::setgroups(&[]).context("setgroups")?,
        }
        nix::unistd::setuid(uid).context("setuid")?;
    }
    if let Place::Below { .. } = place {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")?; // a change of user cancels the request
    }
    Ok(())
}

fn catch_signals() -> anyhow::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGURG,
        Signal::SIGWINCH,
    ] {
        mask.add(signal);
    }
    mask.thread_block().context("signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("signalfd")
}

/// The path of our binary. It is looked up once, so that after an upgrade on disk new vassals get the new one.
pub(super) fn own_program() -> OsString {
    let path = std::env::current_exe().unwrap_or_default();
    if path.is_file() { path.into() } else { "/proc/self/exe".into() }
}

fn clean_up(settings: &Settings, start_dir: &Path, sockets: &[PathBuf]) {
    sockets.iter().for_each(|path| drop(std::fs::remove_file(path)));
    if let Some(path) = settings.emperor.pidfile.as_ref().filter(|_| settings.process.vacuum) {
        let _ = std::fs::remove_file(start_dir.join(path));
    }
}

/// Starts anew in the same process, as our own emperor asked: with the same words, whose files may have changed.
fn again(start_dir: &Path, handed: [(&str, Option<OwnedFd>); 2]) -> anyhow::Result<i32> {
    use std::os::fd::{AsFd, AsRawFd};
    std::env::set_current_dir(start_dir).with_context(|| format!("chdir {}", start_dir.display()))?;
    let open = handed.iter().filter_map(|(name, fd)| Some((*name, fd.as_ref()?)));
    open.clone().try_for_each(|(_, fd)| imperator_sys::process::set_cloexec(fd.as_fd(), false))?;
    let environment = std::env::vars_os().filter(|(name, _)| handed.iter().all(|(own, _)| name != own));
    let environment = environment.chain(open.map(|(name, fd)| (name.into(), fd.as_raw_fd().to_string().into())));
    let environment: Vec<CString> =
        environment.filter_map(|(name, value)| CString::new([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()).collect();
    let arguments: Vec<CString> = std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    let program = CString::new(own_program().into_vec())?;
    spawn::default_signals()?;
    let Err(error) = nix::unistd::execve(&program, &arguments, &environment);
    Err(error).context("cannot start anew")
}
