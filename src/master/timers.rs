//! What is due without anybody asking: harakiri, memory limits, cheaper, idle, heartbeats. Nothing ticks unless an option needs it.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::vars::Vars;
use imperator_sys::process::monotonic_ms;
use imperator_worker::log::diag::say;
use imperator_worker::scoreboard::{CoreCell, Scoreboard};
use imperator_worker::settings::{CheaperAlgorithm, Limits, Settings};
use imperator_worker::watchdog;

use super::decide::{Cheaper, Event, Load, Ms, Stage, Stuck, hopeless, stuck};
use super::order::Order;
use super::poll::Source;
use super::running::Master;

/// The cheaper algorithm counts in these.
const TICK: Ms = 1000;

/// Between two looks at requests over their time.
const STUCK: Ms = 250;

/// When each of them is due; `None`: not needed.
#[derive(Default)]
pub struct Timers {
    pub harakiri: Option<Ms>,
    memory: Option<Ms>,
    cheaper: Option<Ms>,
    idle: Option<Ms>,
    heartbeat: Option<Ms>,
    sos: Option<Ms>,
    /// When the emperor was last asked for a zerg.
    pub(super) asked: Option<Ms>,
    /// Requests at the last look, and when they last changed.
    requests: (u64, Ms),
}

impl Timers {
    /// For the generation that serves from now on.
    pub fn set(&mut self, settings: &Settings, now: Ms) {
        let limits = &settings.limits;
        let every = |on: bool, seconds: u32| on.then(|| now + Ms::from(seconds.max(1)) * 1000);
        self.harakiri = Some(now);
        self.memory = every(limits.evil_reload_on_as_mib > 0 || limits.evil_reload_on_rss_mib > 0, limits.mem_collector_freq);
        self.cheaper = every(adapts(settings), 1);
        self.idle = every(settings.process.idle > 0, 1);
        self.heartbeat = every(settings.vassal.heartbeat > 0, settings.vassal.heartbeat);
        self.sos = every(super::zerg::distress(settings).is_watched(), 1);
        self.requests = (0, now);
    }

    pub fn next(&self) -> Option<Ms> {
        [self.harakiri, self.memory, self.cheaper, self.idle, self.heartbeat, self.sos].into_iter().flatten().min()
    }
}

/// Whether the number of workers is chosen by what they do.
fn adapts(settings: &Settings) -> bool {
    let rules = &settings.process.cheaper_rules;
    settings.process.cheaper.is_some() && (rules.algorithm != CheaperAlgorithm::Manual || rules.rss_hard > 0)
}

/// Requests of one worker over their time.
struct Strike {
    generation: u64,
    worker: u32,
    pid: i32,
    stuck: Vec<Stuck>,
    /// The requests beside them.
    neighbours: bool,
}

impl Master {
    pub(super) fn timers_due(&mut self) {
        let now = monotonic_ms();
        let due = |timer: Option<Ms>| timer.is_some_and(|at| at <= now);
        if due(self.timers.harakiri) {
            self.look_for_stuck_requests(now);
        }
        self.metrics_due(now);
        self.pushes_due(now);
        let Some(settings) = self.current().map(|(_, r)| r.settings.clone()) else { return };
        if due(self.timers.memory) {
            self.timers.memory = Some(now + Ms::from(settings.limits.mem_collector_freq.max(1)) * 1000);
            self.look_for_big_workers(&settings.limits);
        }
        if due(self.timers.cheaper) {
            self.timers.cheaper = Some(now + TICK);
            self.adapt_population();
        }
        if due(self.timers.idle) {
            self.timers.idle = Some(now + TICK);
            self.look_for_idleness(&settings, now);
        }
        if due(self.timers.heartbeat) {
            self.timers.heartbeat = Some(now + Ms::from(settings.vassal.heartbeat) * 1000);
            self.tell_emperor(super::vassal::HEARTBEAT);
        }
        if due(self.timers.sos) {
            self.timers.sos = self.emperor.is_some().then_some(now + TICK);
            self.look_for_distress(&settings, now);
        }
    }

    fn look_for_stuck_requests(&mut self, now: Ms) {
        let (mut strikes, mut next) = (vec![], None::<Ms>);
        for generation in &self.instance.generations {
            let Some(runtime) = self.runtimes.get(&generation.number) else { continue };
            let limit = Ms::from(runtime.settings.limits.harakiri) * 1000;
            for (slot, running) in generation.workers.iter().filter_map(|s| Some((s, s.running()?))) {
                let Some(board) = runtime.scoreboard.worker(slot.id) else { continue };
                let mut deadlines = runtime.deadlines(slot.id);
                if limit > 0 && deadlines.iter().all(|at| *at == 0) {
                    // It tells when the next one begins.
                    runtime.sleep_until_request(slot.id);
                    deadlines = runtime.deadlines(slot.id);
                }
                let calm = deadlines.iter().all(|at| *at == 0);
                let (stuck, then) = stuck(deadlines.into_iter(), if calm { 0 } else { limit }, now);
                next = next.into_iter().chain(then).min();
                if !stuck.is_empty() {
                    let busy = |id: &u32| board.core(*id).is_some_and(|c| c.get(CoreCell::InRequest) == 1);
                    let neighbours = (0..runtime.scoreboard.cores()).filter(busy).count() > stuck.len();
                    strikes.push(Strike { generation: generation.number, worker: slot.id, pid: running.pid, stuck, neighbours });
                }
            }
        }
        self.timers.harakiri = next;
        if !strikes.is_empty() {
            // Who is not struck now (a short queue) or does not end is looked at again.
            self.timers.harakiri = Some(next.unwrap_or(Ms::MAX).min(now + STUCK));
        }
        strikes.into_iter().for_each(|strike| self.strike(&strike));
    }

    fn strike(&mut self, strike: &Strike) {
        let Some(runtime) = self.runtimes.get(&strike.generation) else { return };
        let limits = runtime.settings.limits.clone();
        let queue = |b: &crate::sockets::Bound| imperator_sys::socket::listen_queue(b.fd.as_fd()).map_or(0, |(queue, _)| queue);
        if limits.harakiri_queue_threshold > 0 && runtime.listeners.iter().map(queue).max().unwrap_or(0) < limits.harakiri_queue_threshold {
            return;
        }
        let (generation, worker, pid, now) = (strike.generation, strike.worker, strike.pid, monotonic_ms());
        let graceful = limits.harakiri_graceful_timeout > 0;
        // `set_user_harakiri` without the option: the worker has no thread for it.
        let watched = watchdog::wanted(&runtime.settings);
        let known = |s: &&Stuck| self.instance.is_struck(generation, worker, s.core, s.deadline);
        let fresh: Vec<&Stuck> = strike.stuck.iter().filter(|s| !known(s)).collect();
        if fresh.is_empty() {
            let mercy = watchdog::neighbours_ms(&runtime.settings);
            let late = strike.stuck.iter().map(|s| now.saturating_sub(s.deadline)).max().unwrap_or(0);
            if !graceful && hopeless(late, watched, strike.neighbours, mercy) {
                self.tell(Event::Hopeless { generation, worker });
            }
            return;
        }
        say(&format!("*** HARAKIRI ON WORKER {worker} (pid: {pid}, try: 1, graceful: {}) ***", if graceful { "yes" } else { "no" }));
        fresh.iter().for_each(|s| say(&obituary(&runtime.scoreboard, worker, s.core)));
        if limits.harakiri_verbose {
            for file in ["syscall", "wchan"] {
                let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
                say(&format!("HARAKIRI: -- {file}> {}", text.trim()));
            }
        }
        let stuck = strike.stuck.iter().map(|s| (s.core, s.deadline)).collect();
        let graceful = graceful.then(|| (limits.harakiri_graceful_signal, Ms::from(limits.harakiri_graceful_timeout) * 1000));
        self.tell(Event::Harakiri { generation, worker, stuck, graceful, drain: !watched && strike.neighbours });
    }

    fn look_for_big_workers(&mut self, limits: &Limits) {
        let serving = self.instance.generations.iter().filter(|g| g.stage != Stage::Draining);
        let workers = serving.flat_map(|g| g.workers.iter().filter_map(move |s| Some((g.number, s.id, s.running()?.pid))));
        let over = |size: u64, limit_mib: u64| limit_mib > 0 && size > limit_mib << 20;
        let big: Vec<_> = workers
            .filter(|(_, _, pid)| {
                memory(*pid).is_some_and(|(vsz, rss)| over(vsz, limits.evil_reload_on_as_mib) || over(rss, limits.evil_reload_on_rss_mib))
            })
            .collect();
        for (generation, worker, pid) in big {
            say(&format!(
                "*** EVIL RELOAD ON WORKER {worker} (pid: {pid}): it takes more memory than evil-reload-on-as or -rss allows ***"
            ));
            self.tell(Event::TooBig { generation, worker });
        }
    }

    fn adapt_population(&mut self) {
        let Some((generation, workers)) = self.population() else { return };
        let slots = self.instance.generations.iter().find(|g| g.number == generation).map(|g| g.workers.as_slice()).unwrap_or_default();
        let running: Vec<(u32, i32)> = slots.iter().filter_map(|s| Some((s.id, s.running()?.pid))).collect();
        let Some(runtime) = self.runtimes.get_mut(&generation) else { return };
        let queue = |b: &crate::sockets::Bound| imperator_sys::socket::listen_queue(b.fd.as_fd()).map_or(0, |(queue, _)| queue);
        let queue = runtime.listeners.iter().map(queue).max().unwrap_or(0);
        let weighed = runtime.cheaper.as_ref().is_some_and(Cheaper::weighs);
        let rss = running.iter().filter(|_| weighed).filter_map(|(_, pid)| Some(memory(*pid)?.1)).sum();
        let busyness = runtime.busyness(&running.iter().map(|(id, _)| *id).collect::<Vec<_>>(), TICK);
        let load = Load { workers, busy: runtime.busy(), queue, rss, busyness };
        let Some(cheaper) = &mut runtime.cheaper else { return };
        // Workers that `cheap` or `idle` sent home come back by a connection, not by a tick.
        let (wanted, said) = if workers == 0 { (0, None) } else { cheaper.tick(&load) };
        if let Some(said) = said {
            say(&said);
        }
        if wanted != workers {
            return self.tell(Event::Population { generation, workers: wanted });
        }
        let (least, counts) = (runtime.settings.process.cheaper.unwrap_or(0), runtime.settings.process.cheaper_rules.algorithm);
        if workers <= least && counts != CheaperAlgorithm::Busyness && load.busy == 0 {
            running.iter().for_each(|(id, _)| runtime.sleep_until_request(*id));
            if runtime.busy() == 0 {
                self.timers.cheaper = None;
            }
        }
    }

    /// A request begins after a calm, or a worker that knows nothing of who sleeps has come up.
    pub(super) fn wake_timers(&mut self) {
        self.timers.harakiri = Some(0);
        if let Some((_, runtime)) = self.current()
            && adapts(&runtime.settings)
        {
            self.timers.cheaper.get_or_insert(monotonic_ms() + TICK);
        }
    }

    /// The serving generation and how many workers it has or is about to have.
    pub(super) fn population(&self) -> Option<(u64, u32)> {
        let generation = self.instance.current().filter(|g| g.stage == Stage::Serving)?;
        Some((generation.number, generation.workers.iter().filter(|s| s.wanted()).count() as u32))
    }

    fn look_for_idleness(&mut self, settings: &Settings, now: Ms) {
        let Some((_, runtime)) = self.current() else { return };
        let requests = runtime.scoreboard.total_requests().load(Relaxed);
        if requests != self.timers.requests.0 || runtime.busy() > 0 {
            self.timers.requests = (requests, now);
        }
        if now.saturating_sub(self.timers.requests.1) < Ms::from(settings.process.idle) * 1000
            || self.population().is_none_or(|(_, n)| n == 0)
        {
            return;
        }
        if !settings.process.die_on_idle {
            say("*** idle: all workers go, the first connection brings them back ***");
            return self.obey(&Order::Cheap);
        }
        say("*** idle: ending (die-on-idle) ***");
        if !self.tell_emperor(super::vassal::STOP_ME) {
            self.obey(&Order::GracefulStop);
        }
        self.timers.requests.1 = now;
    }

    /// Waits for a connection on any socket (`cheap`), or stops waiting.
    pub(super) fn watch_listeners(&mut self, watch: bool) {
        let Some((_, runtime)) = self.current() else { return };
        for bound in &runtime.listeners {
            if watch {
                let _ = self.poll.add(bound.fd.as_fd(), Source::Listener);
            } else {
                self.poll.remove(bound.fd.as_fd());
            }
        }
    }

    /// Somebody knocks at a cheap instance.
    pub(super) fn on_connection(&mut self) {
        self.watch_listeners(false);
        let Some((generation, 0)) = self.population() else { return };
        let Some(process) = self.runtimes.get(&generation).map(|r| &r.settings.process) else { return };
        let workers = process.cheaper.map_or(process.workers, |least| process.cheaper_initial.unwrap_or(least).max(1));
        self.timers.requests.1 = monotonic_ms();
        self.tell(Event::Population { generation, workers });
    }
}

/// `HARAKIRI [core C] IP - METHOD URI since T`. The variables are the app's to write: they are read like a packet off the wire.
fn obituary(board: &Scoreboard, worker: u32, core: u32) -> String {
    let Some(slot) = board.worker(worker).and_then(|w| w.core(core)) else { return String::new() };
    let payload = slot.vars();
    let vars = Vars::parse(&payload).ok();
    let var = |name: &[u8]| {
        let value = vars.as_ref().and_then(|v| v.iter().filter(|(key, _)| *key == name).last()).map(|(_, value)| value);
        value.map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
    };
    let since = slot.get(CoreCell::RequestStart);
    format!("HARAKIRI [core {core}] {} - {} {} since {since}", var(b"REMOTE_ADDR"), var(b"REQUEST_METHOD"), var(b"REQUEST_URI"))
}

/// Address space and resident size in bytes.
fn memory(pid: i32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = text.split(' ').map(|n| n.parse::<u64>().unwrap_or(0));
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??.unsigned_abs();
    Some((pages.next()? * page, pages.next()? * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_more_than_nothing() {
        let (vsz, rss) = memory(std::process::id() as i32).expect("statm");
        assert!(vsz >= rss && rss > 1 << 16);
    }

    #[test]
    fn the_stuck_request_is_named() {
        let board = Scoreboard::create(1, 1).expect("memfd");
        assert_eq!(obituary(&board, 1, 0), "HARAKIRI [core 0]  -   since 0");
        assert_eq!(obituary(&board, 1, 7), "");
    }
}
