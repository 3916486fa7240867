//! The effects: each of the core's actions, carried out.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use imperator_sys::process::{monotonic_ms, set_nonblocking};
use imperator_sys::seqpacket::SeqPacket;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{AccessFlags, Pid};

use super::aside::About;
use super::attributes::{self, Attributes};
use super::child::Birth;
use super::core::{Action, Found, Key, Owner};
use super::demand::{Answer, Demand, socket_of};
use super::launch;
use super::poller::What;
use super::shell::{CALM_SCAN_MS, Shell, now};
use super::sources::Look;
use super::stats::{self, Frame};
use super::taps;
use crate::config::reader::from_emperor::{LONGEST, packet};
use crate::privileges::Cell;
use crate::stats::Page;

impl Shell {
    pub(super) fn carry_out(&mut self, action: Action) -> Vec<Action> {
        match action {
            Action::Start(key) => return self.start(&key),
            Action::Name(key) => return self.name(&key),
            Action::Watch(key) => self.watch_demand(&key),
            Action::Tell(key, byte) => self.tell(&key, byte),
            Action::Terminate(_, pid) => drop(kill(Pid::from_raw(pid), Signal::SIGTERM)),
            Action::Kill(_, pid) => drop(kill(Pid::from_raw(pid), Signal::SIGKILL)),
            Action::Ended(key, source) => self.ended(&key, source),
            Action::Forget(key) => self.forget(&key),
            Action::Scan => self.scan(),
            Action::Log(line) => tracing::info!("[emperor] {line}"),
            Action::Obituary(key, line) => self.mourn(&key, &line),
        }
        vec![]
    }

    fn start(&mut self, key: &Key) -> Vec<Action> {
        match self.give_birth(key) {
            Ok((pid, owner)) => {
                let directory = self.directory_of(key);
                let about = About { name: &key.to_string(), pid, owner, directory: &directory };
                let actions = self.core.started(now(), key, pid);
                self.asides.as_emperor(&self.hooks.clone(), &about, monotonic_ms());
                actions
            }
            Err(error) => self.core.start_failed(now(), key, &format!("{error:#}")),
        }
    }

    /// What a vassal without a file is sent, and over what: our end and its own.
    fn config_channel(&self, key: &Key) -> anyhow::Result<Option<(OwnedFd, OwnedFd)>> {
        let source = self.core.vassals.get(key).and_then(|v| self.sources.get(v.source));
        let Some(text) = source.and_then(|s| s.config(&key.id)) else { return Ok(None) };
        let packet = packet(&text).with_context(|| format!("its configuration has {} bytes, and {LONGEST} are the most", text.len()))?;
        let (theirs, ours) = pipe_pair().context("socketpair")?;
        ensure!(nix::unistd::write(&ours, &packet)? == packet.len(), "its configuration does not fit into a socket");
        Ok(Some((ours, theirs)))
    }

    /// The program that a vassal's own file asks for.
    fn own_wrapper(&self, attributes: &Attributes) -> anyhow::Result<Option<String>> {
        let name = self.settings.emperor.wrapper_attr.as_deref().unwrap_or("wrapper");
        let Some(wrapper) = attributes.get(name).filter(|w| !w.is_empty()) else { return Ok(None) };
        ensure!(self.isolation.is_none(), "{name} = {wrapper} of its [emperor] section: not where the emperor isolates its vassals");
        ensure!(wrapper.starts_with('/'), "{name} = {wrapper} of its [emperor] section is no absolute path");
        Ok(Some(wrapper.clone()))
    }

    fn attributes(&self, key: &Key, directory: &std::path::Path) -> Attributes {
        let source = self.core.vassals.get(key).and_then(|v| self.sources.get(v.source));
        match source.and_then(|s| s.config(&key.id)) {
            Some(text) => attributes::parse(&text),
            None => attributes::of_file(&directory.join(&key.id)),
        }
    }

    fn give_birth(&mut self, key: &Key) -> anyhow::Result<(i32, Owner)> {
        let config = self.config_channel(key)?;
        let attributes = self.attributes(key, &self.directory_of(key));
        let wrapper = self.own_wrapper(&attributes)?;
        let (pipe, our_end) = pipe_pair().context("socketpair")?;
        let (asked, asks) = SeqPacket::pair().context("socketpair")?;
        let log = self.taps.is_on().then(log_pipe).transpose().context("pipe")?;
        let vassal = self.core.vassals.get(key).context("not known any more")?;
        let owner = vassal.owner;
        let options = &self.settings.emperor;
        let chdir = options.chdir_attr.as_ref().and_then(|name| attributes.get(name));
        let directory = chdir.map_or_else(|| self.directory_of(key), |own| self.directory_of(key).join(own));
        let (mut namespaces, mut cell) = (self.namespaces, Cell::default());
        if let Some(policy) = &mut self.isolation {
            cell = policy.cell(&key.to_string(), &directory, self.namespaces);
            namespaces |= policy.namespaces();
        }
        let executable = (options.magic_exec).then(|| directory.join(&key.id)).filter(|path| config.is_none() && is_executable(path));
        let birth = Birth {
            name: key.to_string(),
            programs: wrapper.map_or_else(|| launch::programs(options, &self.program), |own| vec![own.into()]),
            arguments: launch::arguments(options, &self.rules, key, &launch::Text::of(config.is_some(), executable)),
            zerg: key.zerg,
            stdin: if vassal.on_demand { self.demands.get(key).map(|d| d.fd.as_fd()) } else { None },
            directory,
            pipe,
            our_end: Some(our_end),
            asked: asked.as_fd(),
            config: config.as_ref().map(|(_, theirs)| theirs.as_fd()),
            log: log.as_ref().map(|(_, theirs)| theirs.as_fd()),
            descriptors: self.descriptors,
            user: options.tyrant.then_some((owner, options.tyrant_initgroups)),
            namespaces,
            cell,
            capabilities: self.capabilities.as_deref(),
            start_hook: options.start_hook.as_deref(),
            hooks: &self.hooks,
        };
        let (pid, our_end) = birth.fork().context("fork")?;
        let our_end = our_end.context("the pipe")?;
        self.close_pipe(key);
        self.poller.readable(our_end.as_fd(), What::Pipe(key.clone()))?;
        self.pipes.insert(key.clone(), our_end);
        self.configs.remove(key);
        self.configs.extend(config.map(|(ours, _)| (key.clone(), ours)));
        self.listen_to(key, asks, log.map(|(ours, _)| ours))?;
        Ok((pid.as_raw(), owner))
    }

    /// Where a vassal starts.
    pub(super) fn directory_of(&self, key: &Key) -> PathBuf {
        self.directory(self.core.vassals.get(key).map_or(usize::MAX, |v| v.source))
    }

    fn directory(&self, source: usize) -> PathBuf {
        self.sources.get(source).map_or_else(|| self.start_dir.clone(), |s| s.directory())
    }

    fn name(&mut self, key: &Key) -> Vec<Action> {
        let directory = self.directory_of(key);
        let source = self.core.vassals.get(key).and_then(|v| self.sources.get(v.source));
        if let Some(name) = source.and_then(|s| s.socket(&key.id)) {
            return self.listen(key, &name);
        }
        match socket_of(&self.settings.emperor, &key.id, &directory) {
            Answer::Socket(name) => self.listen(key, &name),
            Answer::None => self.core.named(now(), key, Ok(false)),
            Answer::Ask(command) => {
                let asked = self.asides.ask_for_socket(&command, &key.id, &directory, monotonic_ms());
                let asked = asked.and_then(|fd| Ok((self.poller.readable(fd.as_fd(), What::Answer(key.clone()))?, fd)));
                match asked {
                    Ok((_, fd)) => {
                        self.answers.insert(key.clone(), (fd, vec![]));
                        vec![]
                    }
                    Err(error) => self.core.named(now(), key, Err(error.to_string())),
                }
            }
        }
    }

    fn listen(&mut self, key: &Key, name: &str) -> Vec<Action> {
        let answer = match Demand::bind(name, self.settings.socket_options.backlog) {
            Ok(demand) => {
                self.demands.insert(key.clone(), demand);
                Ok(true)
            }
            Err(error) => Err(format!("{error:#}")),
        };
        self.core.named(now(), key, answer)
    }

    /// What the program says that names a socket: its first line, or nothing.
    pub(super) fn read_answer(&mut self, key: &Key) {
        let Some((fd, text)) = self.answers.get_mut(key) else { return };
        let mut buffer = [0; 512];
        let finished = loop {
            match nix::unistd::read(&*fd, &mut buffer) {
                Ok(0) => break true,
                Ok(n) => text.extend_from_slice(&buffer[..n]),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => break false,
                Err(_) => break true,
            }
            if text.contains(&b'\n') || text.len() > 4096 {
                break true;
            }
        };
        if !finished {
            return;
        }
        let Some((fd, text)) = self.answers.remove(key) else { return };
        self.poller.remove(fd.as_fd());
        let text = String::from_utf8_lossy(&text);
        let name = text.lines().next().unwrap_or_default().trim().to_owned();
        let actions = if name.is_empty() { self.core.named(now(), key, Ok(false)) } else { self.listen(key, &name) };
        self.act(actions);
    }

    fn watch_demand(&mut self, key: &Key) {
        let Some(demand) = self.demands.get(key) else { return };
        self.poller.remove(demand.fd.as_fd());
        if let Err(error) = self.poller.readable(demand.fd.as_fd(), What::Demand(key.clone())) {
            tracing::error!("[emperor] vassal {key}: cannot wait for connections: {error}");
        }
    }

    /// A vassal that does not read its pipe cannot be told; its tolerance ends all the same.
    fn tell(&mut self, key: &Key, byte: u8) {
        let Some(pipe) = self.pipes.get(key) else { return };
        if let Err(error) = nix::unistd::write(pipe, &[byte]) {
            tracing::warn!("[emperor] vassal {key}: its pipe takes nothing: {}", error.desc());
        }
    }

    /// A process is gone. Its socket, if on demand, stays.
    fn ended(&mut self, key: &Key, source: usize) {
        self.close_pipe(key);
        if let Some(policy) = &mut self.isolation {
            policy.left(&key.to_string());
        }
        self.stop_asking(key);
        self.configs.remove(key);
        if let Some(program) = self.settings.emperor.stop_hook.clone() {
            let directory = self.directory(source);
            self.asides.stop_hook(&program, &key.to_string(), &directory, monotonic_ms());
        }
    }

    fn forget(&mut self, key: &Key) {
        self.close_pipe(key);
        if let Some(demand) = self.demands.remove(key) {
            self.poller.remove(demand.fd.as_fd());
        }
        if let Some((fd, _)) = self.answers.remove(key) {
            self.poller.remove(fd.as_fd());
        }
    }

    /// Looks at all sources.
    pub(super) fn scan(&mut self) {
        let looks: Vec<Look> = self.sources.iter_mut().map(|s| s.look()).collect();
        self.watch_sources();
        let wanted: BTreeSet<PathBuf> = looks.iter().flat_map(|l| l.watch.iter().cloned()).collect();
        let time = now();
        let mut found = Vec::with_capacity(looks.len());
        for (number, look) in looks.into_iter().enumerate() {
            self.complain(number, look.trouble);
            found.push(self.with_writers(number, look.found, time.ms));
        }
        let (news, complete) = match &mut self.watch {
            Some(watch) => (watch.set(&wanted), watch.is_complete()),
            None => (false, false),
        };
        let frequency = u64::from(self.settings.emperor.freq.max(1)) * 1000;
        // What came into a directory before it was watched has been announced to nobody.
        self.scan_at = time.ms
            + if news {
                0
            } else if complete {
                frequency.max(CALM_SCAN_MS)
            } else {
                frequency
            };
        let actions = self.core.scan(time, &found);
        self.act(actions);
        let core = &self.core;
        self.taps.retain(|key| core.vassals.contains_key(key));
    }

    fn complain(&mut self, number: usize, trouble: Option<String>) {
        if let Some(said) = self.troubles.get_mut(number)
            && *said != trouble
        {
            if let Some(text) = &trouble {
                tracing::warn!("[emperor] {text}");
            }
            *said = trouble;
        }
    }

    fn with_writers(&self, number: usize, found: Found, now_ms: u64) -> Found {
        let Found::Files(mut files) = found else { return found };
        let Some(watch) = &self.watch else { return Found::Files(files) };
        let directory = self.sources[number].directory();
        for file in &mut files {
            file.busy = watch.is_being_written(&directory.join(&file.id), now_ms);
        }
        Found::Files(files)
    }

    pub(super) fn answer_clients(&mut self) {
        // Whoever asks for statistics wants today's: this is a look at the sources, too.
        self.scan();
        let Some(mut server) = self.stats.take() else { return };
        server.on_ready(Instant::now(), &mut |_| Page::json(self.document()));
        self.stats = Some(server);
    }

    pub(super) fn document(&self) -> String {
        let sources: Vec<String> = self.sources.iter().map(|s| s.name()).collect();
        let frame = Frame {
            pid: std::process::id(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            cwd: std::env::current_dir().unwrap_or_default().display().to_string(),
            sources: &sources,
            socket: &|id| self.demands.get(&Key::vassal(id)).map(|d| d.name.clone()),
        };
        stats::json(&self.core, now(), &frame)
    }
}

/// Our (non-blocking) end of what a vassal says, and its own.
fn log_pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(ours.as_fd(), true)?;
    // Without room for it the vassal waits for us a little sooner.
    let _ = fcntl(&ours, FcntlArg::F_SETPIPE_SZ(taps::PIPE as i32));
    Ok((ours, theirs))
}

/// The vassal's end (blocking, as it expects) and ours, both close-on-exec.
fn pipe_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, ours) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    set_nonblocking(ours.as_fd(), true)?;
    Ok((theirs, ours))
}

fn is_executable(path: &std::path::Path) -> bool {
    nix::unistd::access(path, AccessFlags::R_OK | AccessFlags::X_OK).is_ok()
}
