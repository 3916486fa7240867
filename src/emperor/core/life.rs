//! What happens to one vassal: its start, its bytes, its end; and the signals that concern all of them.

use super::{Action, Core, Ended, Exit, Face, Key, NO_BLACKLIST_PAUSE_MS, Now, Phase, Reloads, Step, Vassal, byte};
use crate::ask::Unasked;

impl Core {
    /// The shell started the process.
    pub fn started(&mut self, now: Now, key: &Key, pid: i32) -> Vec<Action> {
        let Some(vassal) = self.vassals.get_mut(key) else { return vec![Action::Kill(key.clone(), pid)] };
        vassal.phase = Phase::Running { pid, since: now.ms, heartbeat_due: None };
        vassal.starts += 1;
        vassal.reloads = Reloads::default();
        vassal.reload_due = None; // it has read what is there now
        let modified = vassal.stamp.seconds();
        vassal.face = Face { born: modified, last_mod: modified, first_run: now.seconds(), last_run: now.seconds(), ..Face::default() };
        vec![Action::Log(format!("vassal {key}: started, pid {pid}"))]
    }

    /// The shell could not start a process: as a death.
    pub fn start_failed(&mut self, now: Now, key: &Key, why: &str) -> Vec<Action> {
        let mut out = Vec::new();
        if self.vassals.get(key).is_some_and(|v| v.phase == Phase::Starting) {
            self.bury(now, key, None, &format!("could not be started: {why}"), &mut out);
            self.pump(now, &mut out);
        }
        out
    }

    /// Answer to [`Action::Name`]: whether it has an on-demand socket, which then listens; or why that could not be found out.
    pub fn named(&mut self, now: Now, key: &Key, answer: Result<bool, String>) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(vassal) = self.vassals.get_mut(key).filter(|v| v.phase == Phase::Naming) else { return out };
        match answer {
            Ok(on_demand) => {
                self.unnamed.remove(&key.id);
                vassal.on_demand = on_demand;
                vassal.phase = Phase::Waiting { until: now.ms, reason: "new".into() };
            }
            Err(why) => {
                self.vassals.remove(key);
                if self.unnamed.insert(key.id.clone(), why.clone()).as_ref() != Some(&why) {
                    out.push(Action::Log(format!("vassal {key}: no on-demand socket: {why}; tried again every 5 s")));
                }
                self.rescan_in(now, 5000);
            }
        }
        self.pump(now, &mut out);
        out
    }

    /// A first connection on a sleeping vassal's socket.
    pub fn wake(&mut self, key: &Key) -> Vec<Action> {
        match self.vassals.get_mut(key) {
            Some(vassal) if vassal.phase == Phase::Asleep && !self.ending => {
                vassal.phase = Phase::Starting;
                vec![Action::Start(key.clone())]
            }
            _ => vec![],
        }
    }

    /// A byte on the vassal's pipe; unknown ones are ignored.
    pub fn byte(&mut self, now: Now, key: &Key, byte: u8) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(vassal) = self.vassals.get_mut(key) else { return out };
        let face = &mut vassal.face;
        match byte {
            byte::SPAWNED => (face.ready, face.last_ready) = (true, now.seconds()),
            byte::ACCEPTING if vassal.reloads.counted && vassal.reloads.settled < vassal.reloads.told => {} // of a life before the reload
            byte::ACCEPTING => (face.accepting, face.last_accepting) = (true, now.seconds()),
            byte::LOYAL => {
                (face.loyal, face.last_loyal) = (true, now.seconds());
                self.blacklist.forgive(&key.to_string());
            }
            byte::HEARTBEAT => {
                face.last_heartbeat = now.seconds();
                if let Phase::Running { heartbeat_due, .. } = &mut vassal.phase {
                    *heartbeat_due = Some(now.ms + self.policy.required_heartbeat_ms);
                }
            }
            byte::STOP_ME if matches!(vassal.phase, Phase::Running { .. }) => {
                let counts = !vassal.on_demand && !vassal.face.loyal;
                self.stop(now, key, counts, "it asked to be stopped", &mut out);
            }
            byte::REINFORCEMENTS => self.reinforce(now, key, &mut out),
            _ => {}
        }
        self.pump(now, &mut out);
        out
    }

    /// What a vassal of our own says beside the bytes: that it counts its reloads, or that one is done.
    pub fn said_unasked(&mut self, now: Now, key: &Key, what: Unasked) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(vassal) = self.vassals.get_mut(key) else { return out };
        match what {
            // Words that a version before has read are counted by nobody.
            Unasked::Hello { counts: true } if vassal.reloads.plain => vassal.reloads = Reloads { counted: true, ..Reloads::default() },
            Unasked::Hello { counts } => (vassal.reloads.counted, vassal.reloads.plain) = (counts, !counts),
            Unasked::Settled(number) => {
                vassal.reloads.settled = number;
                if number >= vassal.reloads.told {
                    let face = &mut vassal.face;
                    (face.accepting, face.last_accepting) = (true, now.seconds());
                    self.pump(now, &mut out);
                }
            }
        }
        out
    }

    /// The vassal's end of the pipe is closed. Mostly its exit follows at once; if not, it can no longer be governed and has to go.
    pub fn hangup(&mut self, now: Now, key: &Key) -> Vec<Action> {
        let next = self.first_step(now);
        if let Some(vassal) = self.vassals.get_mut(key)
            && let Phase::Running { pid, .. } = vassal.phase
        {
            vassal.face.cursed = now.seconds();
            vassal.reload_due = None;
            vassal.phase = Phase::Stopping { pid, since: now.ms, next, counts: true };
        }
        vec![]
    }

    /// A child was reaped; anything but a vassal's pid is ignored.
    pub fn exited(&mut self, now: Now, pid: i32, exit: Exit) -> Vec<Action> {
        let Some(key) = self.key_of(pid) else { return vec![] };
        let Some(vassal) = self.vassals.get_mut(&key) else { return vec![] };
        let mut out = vec![Action::Ended(key.clone(), vassal.source)];
        let asked = matches!(vassal.phase, Phase::Stopping { counts: false, .. });
        let blame = vassal.blame.take().map(|why| format!(" ({why})")).unwrap_or_default();
        vassal.resting_since = now.seconds();
        if asked {
            vassal.last_end = Some(Ended { exit: Some(exit), text: end_of_asked(exit, &vassal.phase, now), at: now.seconds() });
        }
        if vassal.halted && vassal.wanted && !self.ending && key.zerg == 0 {
            out.push(Action::Log(format!("vassal {key}: stopped ({exit}); it stays so until it is told to start")));
            vassal.phase = Phase::Stopped;
            out.push(Action::Forget(key.clone()));
        } else if asked && vassal.wanted && !self.ending && key.zerg == 0 {
            out.push(Action::Log(format!("vassal {key}: stopped")));
            vassal.phase = Phase::Waiting { until: now.ms, reason: "stopped".into() };
        } else if asked || self.ending || !vassal.wanted {
            out.push(Action::Log(format!("vassal {key}: stopped ({exit})")));
            self.remove(&key, &mut out);
        } else {
            self.bury(now, &key, Some(exit), &format!("pid {pid} ended with {exit}{blame}"), &mut out);
        }
        self.pump(now, &mut out);
        out
    }

    /// What is due at this time.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if self.rescan_at.is_some_and(|t| t <= now.ms) {
            self.rescan_at = None;
            out.push(Action::Scan);
        }
        let again = self.tolerance();
        for (key, vassal) in &mut self.vassals {
            press(now, key, vassal, again, &mut out);
        }
        self.pump(now, &mut out);
        out
    }

    /// SIGHUP: every vassal reloads, as many at a time as may start at a time.
    pub fn reload_all(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        for vassal in self.vassals.values_mut().filter(|v| matches!(v.phase, Phase::Running { .. })) {
            vassal.reload_due = Some("SIGHUP".into());
        }
        self.pump(now, &mut out);
        out
    }

    /// Every process is to be another one: they are stopped, and start again as many at a time as may start at a time.
    pub fn restart_all(&mut self, now: Now, why: &str) -> Vec<Action> {
        let mut out = Vec::new();
        for key in self.vassals.keys().cloned().collect::<Vec<_>>() {
            self.stop(now, &key, false, why, &mut out);
        }
        out
    }

    /// SIGURG: nobody waits any longer.
    pub fn pardon(&mut self, now: Now) -> Vec<Action> {
        self.blacklist.clear();
        self.flapping.clear();
        for vassal in self.vassals.values_mut() {
            if let Phase::Waiting { until, .. } = &mut vassal.phase {
                *until = now.ms;
            }
        }
        let mut out = vec![Action::Log("the blacklist is empty now (SIGURG)".into())];
        self.pump(now, &mut out);
        out
    }

    /// The end: everybody is told at once.
    pub fn end(&mut self, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if self.ending {
            return out;
        }
        self.ending = true;
        self.rescan_at = None;
        let mercy = self.policy.end_mercy_ms;
        for key in self.vassals.keys().cloned().collect::<Vec<_>>() {
            match self.vassals.get_mut(&key).map(|v| &mut v.phase) {
                Some(Phase::Running { .. }) => self.stop(now, &key, false, "the emperor ends", &mut out),
                Some(Phase::Stopping { next, .. }) => {
                    *next = match *next {
                        Step::Terminate { at } => Step::Terminate { at: at.min(now.ms + mercy / 2) },
                        Step::Kill { at } => Step::Kill { at: at.min(now.ms + mercy) },
                    }
                }
                _ => self.remove(&key, &mut out),
            }
        }
        out
    }

    /// Tells a running vassal to end. `counts`: as a death.
    pub(super) fn stop(&mut self, now: Now, key: &Key, counts: bool, why: &str, out: &mut Vec<Action>) {
        let next = self.first_step(now);
        let Some(vassal) = self.vassals.get_mut(key) else { return };
        let Phase::Running { pid, .. } = vassal.phase else { return };
        vassal.face.cursed = now.seconds();
        vassal.reload_due = None;
        vassal.blame = counts.then(|| why.to_owned());
        vassal.phase = Phase::Stopping { pid, since: now.ms, next, counts };
        out.push(Action::Log(format!("vassal {key}: stop ({why})")));
        out.push(Action::Tell(key.clone(), if self.policy.graceful { byte::STOP_GRACEFULLY } else { byte::STOP }));
    }

    fn tolerance(&self) -> u64 {
        if self.ending { self.policy.end_mercy_ms } else { self.policy.curse_tolerance_ms }
    }

    fn first_step(&self, now: Now) -> Step {
        Step::Terminate { at: now.ms + self.tolerance() / 2 }
    }

    /// A death: how long until the next try, if there is one.
    fn bury(&mut self, now: Now, key: &Key, exit: Option<Exit>, what: &str, out: &mut Vec<Action>) {
        let Some(vassal) = self.vassals.get_mut(key) else { return };
        vassal.resting_since = now.seconds();
        vassal.reload_due = None;
        vassal.last_end = Some(Ended { exit, text: what.to_owned(), at: now.seconds() });
        let loyal = vassal.face.loyal && vassal.pid().is_some();
        let wait = if self.policy.no_blacklist {
            NO_BLACKLIST_PAUSE_MS
        } else if loyal {
            self.flapping.entry(key.clone()).or_default().died(now)
        } else {
            self.blacklist.died(&key.to_string(), now, self.policy.throttle_ms, self.policy.max_throttle_ms)
        };
        if key.zerg > 0 {
            self.vassals.remove(key);
            out.push(Action::Obituary(key.clone(), format!("vassal {key}: {what}")));
            out.push(Action::Forget(key.clone()));
            return;
        }
        let after = if loyal { "" } else { " before it had served a request" };
        let line = format!("vassal {key}: {what}{after}; next try in {:.1} s", wait as f64 / 1000.0);
        out.push(Action::Obituary(key.clone(), line));
        vassal.phase = Phase::Waiting { until: now.ms + wait, reason: format!("{what}{after}") };
    }

    /// Byte 30: a zerg of the same file, if the broodlord has one left.
    fn reinforce(&mut self, now: Now, key: &Key, out: &mut Vec<Action>) {
        let zergs = || self.vassals.keys().filter(|k| k.zerg > 0);
        let Some(number) = (1..=self.policy.broodlord).find(|n| zergs().all(|k| k.zerg != *n)) else {
            return out.push(Action::Log(format!(
                "vassal {key} asks for reinforcements; there are none left (emperor-broodlord {})",
                self.policy.broodlord
            )));
        };
        let zerg = Key { id: key.id.clone(), zerg: number };
        let Some(main) = self.vassals.get(&Key::vassal(&key.id)).filter(|v| v.wanted && !v.halted) else { return };
        if self.ending || self.blacklist.free_at(&zerg.to_string()) > now.ms {
            return;
        }
        let phase = Phase::Waiting { until: now.ms, reason: "reinforcements".into() };
        let vassal = Vassal {
            phase,
            on_demand: false,
            face: Face::default(),
            starts: 0,
            last_end: None,
            reload_due: None,
            blame: None,
            ..main.clone()
        };
        self.vassals.insert(zerg, vassal);
    }
}

/// How one ended that was told to.
fn end_of_asked(exit: Exit, phase: &Phase, now: Now) -> String {
    match (exit, phase) {
        (Exit::Signal(9), Phase::Stopping { since, next: Step::Kill { .. }, .. }) => {
            format!("{exit}, as it had not ended {} s after it was told to stop", now.ms.saturating_sub(*since) / 1000)
        }
        _ => format!("{exit}, as it was told to stop"),
    }
}

/// The next step against one that stays, and the demand for heartbeats.
fn press(now: Now, key: &Key, vassal: &mut Vassal, again_ms: u64, out: &mut Vec<Action>) {
    match &mut vassal.phase {
        Phase::Running { pid, heartbeat_due: Some(due), .. } if *due <= now.ms => {
            out.push(Action::Log(format!("vassal {key}: no heartbeat in time, killed")));
            out.push(Action::Kill(key.clone(), *pid));
            vassal.face.cursed = now.seconds();
            vassal.reload_due = None;
            vassal.blame = Some("killed, as no heartbeat had come in time".into());
            vassal.phase = Phase::Stopping { pid: *pid, since: now.ms, next: Step::Kill { at: now.ms + again_ms.max(1000) }, counts: true };
        }
        Phase::Stopping { pid, next, counts, .. } if next.at() <= now.ms => match *next {
            Step::Terminate { at } => {
                out.push(Action::Log(format!("vassal {key}: pid {pid} has not ended yet, SIGTERM")));
                out.push(Action::Terminate(key.clone(), *pid));
                *next = Step::Kill { at: at + again_ms.div_ceil(2).max(1) };
            }
            Step::Kill { .. } => {
                out.push(Action::Log(format!("vassal {key}: pid {pid} does not end, SIGKILL")));
                if *counts {
                    vassal.blame.get_or_insert_with(|| "killed, as it had closed its pipe and did not end".into());
                }
                out.push(Action::Kill(key.clone(), *pid));
                *next = Step::Kill { at: now.ms + again_ms.max(1000) };
            }
        },
        _ => {}
    }
}
