//! From one life of the master to the next.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use anyhow::Result;
use imperator_sys::process::monotonic_ms;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::log::diag::say;
use imperator_worker::scoreboard::Scoreboard;
use nix::libc::SIGKILL;

use super::asked::Asked;
use super::caches::CacheSet;
use super::decide::{Event, Haste};
use super::handover::{self, Held, State};
use super::pushes::Pushes;
use super::running::{Master, send_signal};
use super::runtime::Runtime;
use super::services::Services;
use super::zerg::ZergServer;
use super::{policy, setup, vassal};
use crate::config::reader::from_emperor;
use crate::sockets::Bound;

impl Master {
    /// Reads the configuration, and if it is good becomes the next life of this master.
    #[inline(never)] // its frame, a whole configuration, would be part of the zygote's for life
    pub(super) fn reload(&mut self, brutal: bool) {
        match setup::load(&self.start, !self.inherited_again().is_empty()) {
            Err(error) => {
                self.tally.reload_failed(&format!("the configuration has errors: {error}"));
                say(&format!("*** reload refused, nothing changes: the configuration has errors ***\n{error}"));
                self.reassure_emperor();
                self.asked.iter().for_each(Asked::settle_all);
            }
            Ok(_) if self.exec_waits(brutal) => {}
            Ok(_) => self.exec(brutal),
        }
        self.back_to_directory();
        if self.instance.current().is_none() {
            // The first load has failed, and this was the second try.
            self.events.push_back(Event::Stop { haste: Haste::Now, code: 1 });
        }
    }

    /// What a hook has kept for a while.
    pub(super) fn kept_reload(&mut self) {
        if let Some(brutal) = self.reload_due() {
            self.exec(brutal);
            self.back_to_directory();
        }
    }

    fn exec(&mut self, brutal: bool) {
        say("binary reloading uWSGI...");
        // The start of a line that has no end yet lives in our memory only.
        self.logs.finish();
        let state = self.state(brutal);
        let error = handover::exec(&state, &self.start.argv, &self.start.env);
        self.tally.reload_failed(&format!("{error:#}"));
        say(&format!("*** reload failed: {error:#}; the running generation goes on ***"));
        self.reassure_emperor();
        self.asked.iter().for_each(Asked::settle_all);
    }

    fn state(&self, brutal: bool) -> State {
        let raw = |packet: &SeqPacket| packet.as_fd().as_raw_fd();
        let held = |(number, r): (&u64, &Runtime)| Held {
            number: *number,
            settings: (*r.settings).clone(),
            listeners: r.listeners.iter().map(|b| (b.fd.as_raw_fd(), b.label.clone())).collect(),
            scoreboard: r.scoreboard.as_fd().as_raw_fd(),
            zygote: r.zygote.as_ref().map(raw),
            workers: r.workers.iter().map(|(id, w)| (*id, raw(w))).collect(),
            apps: r.apps.clone(),
            language: r.language.clone(),
            born: r.born.clone(),
            caches: r.caches.descriptors(),
        };
        State {
            instance: self.instance.clone(),
            generations: self.runtimes.iter().map(held).collect(),
            brutal,
            reloads: self.reloads + 1,
            started_at: self.started_at,
            binary: self.start.binary.clone(),
            vacuum: self.vacuum.clone(),
            inside: self.inside.handover(),
            logs: self.logs.handover().into_iter().map(|(name, fd)| (name, fd.as_raw_fd())).collect(),
            emperor: self.emperor.as_ref().map(AsRawFd::as_raw_fd),
            emperor_config: self.emperor_config.as_ref().map(AsRawFd::as_raw_fd),
            emperor_text: from_emperor::last(),
            asked: self.asked.as_ref().map(|asked| raw(asked.channel())),
            reloads_heard: self.asked.as_ref().map_or(0, Asked::count),
            answers: self.services.answers.held(),
            cache_peers: self.kept_peers(),
            metrics: self.meter.segment().map(|m| (m.as_fd().as_raw_fd(), m.names().to_vec())),
            zerg: self.zerg.as_ref().map(ZergServer::handover).unwrap_or_default(),
            daemons: self.daemons.handover(),
            crons: self.crons.handover(),
            tally: self.tally.clone(),
            descriptors: self.descriptors.handover(),
        }
    }

    /// After an exec, without a new generation.
    pub(super) fn stay(&mut self, error: &anyhow::Error) {
        say(&format!("*** reload failed: {error:#}; the running generation goes on ***"));
        self.tally.reload_failed(&format!("{error:#}"));
        self.keep();
    }

    /// After an exec whose configuration is refused: the settings of the running generation hold again.
    fn keep(&mut self) {
        self.back_to_directory();
        let Some(number) = self.current().map(|(number, _)| number) else {
            return self.events.push_back(Event::Stop { haste: Haste::Now, code: 1 });
        };
        self.hold_again(number);
        self.up = true;
        let _ = self.services.answer(&self.poll);
        self.reassure_emperor();
    }

    /// The settings of a generation that serves on hold again, in all that a newer one has changed or not opened.
    fn hold_again(&mut self, generation: u64) {
        self.go_by(generation);
        let Some(settings) = self.last_settings.clone() else { return };
        self.open_services(&settings);
        let complain = |what: &str, done: Result<()>| {
            if let Err(error) = done {
                say(&format!("{what}: {error:#}"));
            }
        };
        complain("changes of caches are not taken", self.open_peers(&settings));
        complain("zergs get no sockets", self.open_zerg(&settings));
        complain("descriptors are not watched", self.watch_descriptors(&settings));
        let now = monotonic_ms();
        complain("metrics", self.meter.define(&settings, now));
        match Pushes::new(&settings, now) {
            Ok(pushes) => self.pushes = pushes,
            Err(error) => say(&format!("statistics are not pushed: {error:#}")),
        }
        self.timers.set(&settings, now);
        self.set_cache_timers(&settings);
    }

    /// What the running generation needs while the next one loads: its time limits, and statistics.
    pub(super) fn serve_meanwhile(&mut self) -> Result<()> {
        let Some(settings) = self.current().map(|(_, r)| r.settings.clone()) else { return Ok(()) };
        self.timers.set(&settings, monotonic_ms());
        Ok(self.services.answer(&self.poll)?)
    }

    /// The newer generation failed.
    pub(super) fn serves_on(&mut self, generation: u64) {
        self.tally.reload_failed("the app could not be loaded; the log says why");
        // Addresses, the FIFO and touched files are those of the settings that hold again.
        self.kept_answers = self.services.retire(&self.poll);
        self.hold_again(generation);
        let _ = self.services.answer(&self.poll);
        self.reassure_emperor();
    }

    fn open_services(&mut self, settings: &imperator_worker::settings::Settings) {
        match Services::open(settings, std::mem::take(&mut self.kept_answers), &self.poll) {
            Ok(services) => self.services = services,
            Err(error) => say(&format!("statistics, FIFO and touched files are not served: {error:#}")),
        }
    }

    /// An emperor that asked for a reload waits to hear that the vassal is there.
    fn reassure_emperor(&mut self) {
        self.tell_emperor(vassal::SPAWNED);
        self.tell_emperor(vassal::ACCEPTING);
        self.asked.iter().for_each(Asked::settle);
    }

    /// Children that are nobody's: forks of a zygote that hang before they could say which worker they are.
    pub(super) fn kill_forks(&mut self, generation: u64) {
        let own = std::process::id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let unknown = |pid: &i32| self.instance.zygote_of(*pid).is_none() && self.instance.worker_of(*pid).is_none();
        children.split(' ').filter_map(|pid| pid.parse().ok()).filter(unknown).filter(|pid| name(*pid) == "zygote\n").for_each(|pid| {
            say(&format!("a worker of generation {generation} (pid: {pid}) hangs in its fork: killing it"));
            send_signal(pid, SIGKILL);
        });
    }

    pub(super) fn back_to_directory(&self) {
        let settings = self.runtimes.last_key_value().map(|(_, r)| r.settings.clone());
        if let Some(directory) = settings.and_then(|s| s.process.chdir.clone()) {
            let _ = std::env::set_current_dir(directory);
        }
    }
}

/// A generation of before the exec. Its `sockets` may be those of another one too.
pub(super) fn take_over(held: Held, sockets: &mut BTreeMap<i32, Rc<OwnedFd>>) -> Result<Runtime> {
    let mut listeners = vec![];
    for (number, label) in held.listeners {
        let fd = match sockets.get(&number) {
            Some(fd) => fd.clone(),
            None => Rc::new(handover::take(number)?),
        };
        sockets.insert(number, fd.clone());
        listeners.push(Bound { fd, label });
    }
    let process = &held.settings.process;
    let (workers, threads) = (process.workers, process.threads.max(1));
    let scoreboard = Scoreboard::open(handover::take(held.scoreboard)?, workers, threads).or_else(|error| {
        // An upgrade: its workers go on with their board until the new ones are there, and nobody here reads it.
        say(&format!("generation {}: {error}; its figures are lost", held.number));
        Scoreboard::create(workers, threads)
    })?;
    let packet = |fd: i32| handover::take(fd).map(SeqPacket::from_fd);
    let caches = held.caches.into_iter().map(|fd| fd.map(handover::take).transpose()).collect::<Result<_>>()?;
    let caches = CacheSet::adopt(&held.settings, caches)?;
    let workers = held.workers.into_iter().map(|(id, fd)| Ok((id, packet(fd)?))).collect::<Result<_>>()?;
    let (plan, place) = crate::privileges::plan(&held.settings)?;
    Ok(Runtime {
        plan,
        place,
        cheaper: policy::cheaper(&held.settings),
        looks: BTreeMap::new(),
        settings: Rc::new(held.settings),
        listeners,
        scoreboard,
        caches,
        zygote: held.zygote.map(packet).transpose()?,
        workers,
        apps: held.apps,
        language: held.language,
        born: held.born,
    })
}
