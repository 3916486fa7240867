//! What the request threads of a worker share: the epoll set, the waiting connections, and whether the worker accepts,
//! drains or ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use imperator_sys::{process, signals};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::account::max_requests;
use crate::ahead::Bodies;
use crate::clock::monotonic_ms;
use crate::connection::Connection;
use crate::dispatch::{ASIDE_MS, Peer, Share, Stance, Verdict};
use crate::intake::Limits;
use crate::language::Language;
use crate::lead::Lead;
use crate::log::Format;
use crate::lot::{Lot, Ticket};
use crate::offload::{Census, Offload};
use crate::scoreboard::{Status, WorkerCell, WorkerSlot};
use crate::serve::WorkerConfig;
use crate::settings::{Protocol, Settings};
use crate::statics::Statics;
use crate::watchdog;

/// Event numbers with the top bit set are not connections.
const SPECIAL: u64 = 1 << 63;
const WAKE: u64 = SPECIAL | 1 << 32;
const TIMER: u64 = SPECIAL | 2 << 32;
const LINK: u64 = SPECIAL | 3 << 32;
/// Events that one thread alone takes at once.
const BATCH: usize = 16;
/// Milliseconds without accepting after the process ran out of descriptors or memory.
const STARVED_MS: u64 = 100;
/// Milliseconds between two lines about it.
const STARVED_SAID_MS: u64 = 10_000;

/// What a thread woke up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Listener(usize),
    Waiting(Ticket),
    Wake,
    Timer,
    Link,
    Nothing,
}

/// Events that the kernel has told and that are not acted on yet.
pub(crate) struct Batch {
    events: [EpollEvent; BATCH],
    at: usize,
    end: usize,
}

impl Batch {
    /// There is nothing left of it: the next event has to be waited for.
    pub fn is_over(&self) -> bool {
        self.at == self.end
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { events: [EpollEvent::empty(); BATCH], at: 0, end: 0 }
    }
}

pub(crate) struct Shared<'w> {
    pub config: &'w WorkerConfig,
    pub settings: &'w Settings,
    pub language: &'w dyn Language,
    /// The language's modifiers.
    pub modifiers: Vec<u8>,
    pub limits: Limits,
    pub format: Format,
    pub statics: Statics,
    /// Long bodies on their way.
    pub bodies: Bodies,
    pub slot: WorkerSlot<'w>,
    pub pid: u32,
    /// SERVER_NAME of HTTP requests: the name of the host.
    pub server_name: String,
    /// SERVER_PORT by listener.
    pub server_ports: Vec<String>,
    /// CLOCK_MONOTONIC milliseconds.
    pub born: u64,
    pub max_requests: u64,
    /// Whether a request that begins may have to wake somebody.
    pub has_sleepers: bool,
    /// Whether the master knows that a request was served.
    pub loyal: AtomicBool,
    /// Who waits for events; `None` with one thread.
    pub lead: Option<Lead>,
    wake: BorrowedFd<'static>,
    epoll: Epoll,
    timer: TimerFd,
    inside: Mutex<Inside>,
    /// `None`: responses are waited for by the threads that make them.
    pub offload: Option<Offload>,
    census: Arc<Census>,
    /// CLOCK_MONOTONIC milliseconds; 0 before there was a reason to go.
    stays_until: AtomicU64,
    alone: AtomicBool,
    busy: AtomicUsize,
    paused: AtomicBool,
    finished: AtomicBool,
    exit_code: AtomicI32,
}

/// What is changed under the lock.
#[derive(Default)]
struct Inside {
    lot: Lot,
    /// When the timer goes off.
    alarm: Option<u64>,
    /// Which listeners are in the epoll set.
    listening: Vec<bool>,
    open: bool,
    starved_until: Option<u64>,
    /// Connections that are kept are left to other workers until then.
    aside_until: Option<u64>,
    stance: Stance,
    /// When the log was told last.
    starved_said: Option<u64>,
}

impl<'w> Shared<'w> {
    pub fn new(config: &'w WorkerConfig, language: &'w dyn Language, wake: BorrowedFd<'static>, stop_code: i32) -> io::Result<Self> {
        let settings = &config.boot.settings;
        let slot =
            config.scoreboard.worker(config.worker).ok_or_else(|| io::Error::other("the scoreboard has no place for this worker"))?;
        for listener in &config.listeners {
            process::set_nonblocking(listener.as_fd(), true)?;
        }
        let census = Arc::<Census>::default();
        let shared = Self {
            config,
            settings,
            language,
            modifiers: language.modifiers().to_vec(),
            limits: Limits::new(&settings.request),
            format: Format::new(settings),
            bodies: Bodies::new(&settings.request),
            statics: Statics::new(&settings.statics, &settings.cache),
            slot,
            pid: std::process::id(),
            server_name: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            server_ports: config.boot.listeners.iter().map(|l| l.port.map(|p| p.to_string()).unwrap_or_default()).collect(),
            born: monotonic_ms(),
            max_requests: max_requests(&settings.limits, config.worker, settings.process.workers),
            has_sleepers: watchdog::has_sleepers(settings),
            loyal: AtomicBool::new(false),
            lead: (settings.process.threads > 1).then(Lead::new),
            wake,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?,
            inside: Mutex::new(Inside { listening: vec![false; config.listeners.len()], ..Inside::default() }),
            offload: Offload::new(&settings.request, &census),
            census,
            stays_until: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            exit_code: AtomicI32::new(stop_code),
        };
        // Once, not by each worker.
        if config.worker == 1 {
            shared.statics.warn();
        }
        shared.epoll.add(shared.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        shared.epoll.add(&shared.timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        if let Some(link) = &config.link {
            shared.epoll.add(link.as_ref(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, LINK))?;
        }
        Ok(shared)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // -- events

    /// The next event of `batch`; waits for more when there is none.
    pub fn next(&self, batch: &mut Batch) -> Event {
        if batch.is_over() {
            self.refill(batch);
        }
        let Some(event) = batch.events[..batch.end].get(batch.at) else { return Event::Nothing };
        batch.at += 1;
        match event.data() {
            WAKE => Event::Wake,
            TIMER => Event::Timer,
            LINK => Event::Link,
            listener if listener & SPECIAL != 0 => Event::Listener((listener & 0xffff_ffff) as usize),
            ticket => Event::Waiting(Ticket::from_u64(ticket)),
        }
    }

    /// One thread alone takes all that is ready at once: nobody else could. Of several each takes no more than it can serve now.
    fn refill(&self, batch: &mut Batch) {
        let most = if self.settings.process.threads > 1 { 1 } else { BATCH };
        (batch.at, batch.end) = (0, self.epoll.wait(&mut batch.events[..most], EpollTimeout::NONE).unwrap_or(0));
        if batch.end > 1 {
            // A listener's event has been told to this worker alone, so it does not wait behind requests.
            batch.events[..batch.end].sort_by_key(|event| event.data() & SPECIAL == 0);
        }
    }

    pub fn rearm_link(&self) {
        if let Some(link) = &self.config.link {
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, LINK);
            let _ = self.epoll.modify(link.as_ref(), &mut event);
        }
    }

    // -- waiting connections

    /// A connection came in.
    pub fn arrived(&self, protocol: Protocol) {
        self.census.arrived();
        self.count(protocol, 1);
    }

    /// A connection is gone.
    pub fn left(&self, mut connection: Connection) {
        self.forget(&mut connection);
        self.count(connection.protocol, -1);
        drop(connection);
        self.census.left();
        self.finish_drained();
    }

    /// The engine has the connection: no thread of this worker is kept busy by it.
    pub fn lend(&self, connection: &mut Connection) {
        self.forget(connection);
        self.count(connection.protocol, -1);
    }

    /// It came back.
    pub fn take_back(&self, connection: &Connection) {
        self.count(connection.protocol, 1);
    }

    fn count(&self, protocol: Protocol, change: i64) {
        if protocol.keeps() {
            self.slot.cell(WorkerCell::Connections).fetch_add(change as u64, Relaxed);
        }
    }

    fn forget(&self, connection: &mut Connection) {
        if let Some(place) = connection.place.take() {
            // Said expressly, as a child process of the app's may hold the socket open beyond our close.
            let _ = self.epoll.delete(&connection.socket);
            connection.interest = EpollFlags::empty();
            self.inside().lot.release(place);
        }
    }

    /// Lets a connection wait until its peer sends, up to `deadline` (CLOCK_MONOTONIC milliseconds); with bytes in its buffer it comes back at once.
    pub fn park(&self, connection: Connection, deadline: u64) {
        let mut flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        if self.settings.process.threads > 1 {
            flags |= EpollFlags::EPOLLONESHOT;
        }
        if connection.has_bytes() && connection.wanted <= connection.buffer.data().len() {
            flags |= EpollFlags::EPOLLOUT;
        }
        let mut inside = self.inside();
        let ticket = inside.lot.park(connection, deadline);
        let watched = inside.lot.get_mut(ticket).is_none_or(|connection| self.watch(connection, flags, ticket));
        self.set_alarm(&mut inside, deadline);
        if !watched {
            // No room in the epoll set.
            if let Some(connection) = inside.lot.take(ticket) {
                drop(inside);
                self.left(connection);
            }
        }
    }

    /// Tells the epoll set what to wait for, if it does not know yet. One thread alone needs no disarming: while it works on
    /// a connection nobody asks for events.
    fn watch(&self, connection: &mut Connection, flags: EpollFlags, ticket: Ticket) -> bool {
        let known = std::mem::replace(&mut connection.interest, flags);
        let mut event = EpollEvent::new(flags, ticket.to_u64());
        if known.is_empty() {
            self.epoll.add(&connection.socket, event).is_ok()
        } else if known != flags || flags.contains(EpollFlags::EPOLLONESHOT) {
            self.epoll.modify(&connection.socket, &mut event).is_ok()
        } else {
            true
        }
    }

    pub fn take(&self, ticket: Ticket) -> Option<Connection> {
        self.inside().lot.take(ticket)
    }

    pub fn take_all(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Connection> {
        self.inside().lot.take_all(wanted)
    }

    /// After the timer went off: one connection that waited too long. `None` sets the timer for the next.
    pub fn take_overdue(&self) -> Option<Connection> {
        let mut inside = self.inside();
        let _ = self.timer.wait();
        let now = monotonic_ms();
        if inside.starved_until.is_some_and(|until| until <= now) {
            inside.starved_until = None;
            self.update_listeners(&mut inside);
        }
        if inside.aside_until.is_some_and(|until| until <= now) {
            inside.aside_until = None;
            self.update_listeners(&mut inside);
        }
        let overdue = inside.lot.take_overdue(now);
        inside.alarm = None;
        let next = [inside.lot.next_deadline(), inside.starved_until, inside.aside_until].into_iter().flatten().min();
        if let Some(next) = next {
            self.set_alarm(&mut inside, next);
        }
        overdue
    }

    /// Makes sure that the timer goes off at `deadline` or before.
    fn set_alarm(&self, inside: &mut Inside, deadline: u64) {
        if inside.alarm.is_some_and(|alarm| alarm <= deadline) {
            return;
        }
        let left = Duration::from_millis(deadline.saturating_sub(monotonic_ms()).max(1));
        inside.alarm = self.timer.set(Expiration::OneShot(TimeSpec::from(left)), TimerSetTimeFlags::empty()).is_ok().then_some(deadline);
    }

    // -- accepting

    /// Starts accepting.
    pub fn open(&self) {
        let mut inside = self.inside();
        inside.open = true;
        self.update_listeners(&mut inside);
    }

    /// SIGTSTP at the master: connections stay in the backlog.
    pub fn pause(&self, paused: bool) {
        let mut inside = self.inside();
        self.paused.store(paused, SeqCst);
        if !paused {
            // Said without need when another worker has ended: it may have taken a wake-up with it. To register anew is to look anew.
            (0..self.config.listeners.len()).for_each(|index| self.listen(&mut inside, index, false));
        }
        self.update_listeners(&mut inside);
        if self.busy.load(SeqCst) == 0 {
            self.show(if paused { Status::Pause } else { Status::Idle });
        }
    }

    /// Descriptors or memory ran out: waiting is better than asking again at once. Whether it is time to say so.
    pub fn starve(&self) -> bool {
        let mut inside = self.inside();
        let now = monotonic_ms();
        let until = now + STARVED_MS;
        let said = inside.starved_said.is_some_and(|said| now - said < STARVED_SAID_MS);
        if !said {
            inside.starved_said = Some(now);
        }
        inside.starved_until = Some(until);
        self.update_listeners(&mut inside);
        self.set_alarm(&mut inside, until);
        !said
    }

    pub fn accepting(&self) -> bool {
        self.slot.get(WorkerCell::Accepting) == 1 && !self.draining()
    }

    fn update_listeners(&self, inside: &mut Inside) {
        let wanted = inside.open && !self.paused.load(SeqCst) && inside.starved_until.is_none() && !self.draining();
        for index in 0..self.config.listeners.len() {
            self.listen(inside, index, wanted && (inside.aside_until.is_none() || !self.keeps(index)));
        }
        self.slot.cell(WorkerCell::Accepting).store(wanted.into(), Relaxed);
    }

    /// Has the epoll set watch a listener, or no longer.
    fn listen(&self, inside: &mut Inside, index: usize, wanted: bool) {
        let (Some(listener), Some(listening)) = (self.config.listeners.get(index), inside.listening.get_mut(index)) else { return };
        if std::mem::replace(listening, wanted) == wanted {
            return;
        }
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        let _ = if wanted { self.epoll.add(listener, EpollEvent::new(flags, SPECIAL | index as u64)) } else { self.epoll.delete(listener) };
    }

    /// Whether connections of that listener are shared out by number: they may be kept, and there are other workers.
    pub fn keeps(&self, listener: usize) -> bool {
        self.config.scoreboard.workers() > 1 && self.config.boot.listeners.get(listener).is_some_and(|l| l.protocol.keeps())
    }

    fn share(&self) -> Share {
        let board = &self.config.scoreboard;
        let peers = (1..=board.workers()).filter(|id| *id != self.config.worker).filter_map(|id| board.worker(id));
        let peers = peers.map(|p| Peer { accepting: p.get(WorkerCell::Accepting) == 1, connections: p.get(WorkerCell::Connections) });
        Share::of(self.slot.get(WorkerCell::Connections), peers)
    }

    /// A connection that may be kept is there: whether this worker takes it. (See [`crate::dispatch`].)
    pub fn may_take(&self) -> bool {
        let mut inside = self.inside();
        let now = monotonic_ms();
        let verdict = inside.stance.decide(self.share(), now);
        if verdict == Verdict::StandAside {
            let until = now + ASIDE_MS;
            inside.aside_until = Some(until);
            self.update_listeners(&mut inside);
            self.set_alarm(&mut inside, until);
        }
        verdict == Verdict::Take
    }

    /// After such a connection: the next one is for another worker, unless all of them hold more.
    pub fn queue_anew(&self, listener: usize) {
        if self.share() != Share::Least {
            self.stand_last(listener);
        }
    }

    /// After a response that the engine sends on: the next one is for another worker's engine.
    pub fn let_others_send(&self, listener: usize) {
        if self.config.scoreboard.workers() > 1 {
            self.stand_last(listener);
        }
    }

    /// Goes to the end of a listener's queue.
    fn stand_last(&self, listener: usize) {
        let mut inside = self.inside();
        if inside.listening.get(listener).copied().unwrap_or(false) {
            self.listen(&mut inside, listener, false);
            self.listen(&mut inside, listener, true);
        }
    }

    // -- busy and idle

    pub fn is_busy(&self) -> bool {
        self.busy.load(SeqCst) > 0
    }

    pub fn begin_request(&self) {
        if self.busy.fetch_add(1, SeqCst) == 0 {
            self.show(Status::Busy);
        }
    }

    pub fn end_request(&self) {
        if self.busy.fetch_sub(1, SeqCst) == 1 {
            self.show(if self.paused.load(SeqCst) { Status::Pause } else { Status::Idle });
            if self.busy.load(SeqCst) > 0 {
                self.show(Status::Busy);
            }
        }
    }

    fn show(&self, status: Status) {
        self.slot.cell(WorkerCell::Status).store(status as u64, Relaxed);
    }

    // -- the end

    pub fn draining(&self) -> bool {
        self.census.draining()
    }

    /// Stops accepting; the worker ends with `code` when its last connection is gone. Whether this call began it.
    pub fn drain(&self, code: i32) -> bool {
        if self.census.drain() {
            return false;
        }
        self.exit_code.store(code, SeqCst);
        let mut inside = self.inside();
        self.update_listeners(&mut inside);
        true
    }

    /// Connections that there are.
    pub fn live(&self) -> usize {
        self.census.live()
    }

    /// Ends a worker that drains and has nothing left.
    pub fn finish_drained(&self) {
        if !self.draining() {
            return;
        }
        let live = self.census.live();
        let left_behind = if self.alone.load(SeqCst) { self.in_flight() } else { 0 };
        if live <= left_behind {
            self.finished.store(true, SeqCst);
            signals::wake();
        }
    }

    fn in_flight(&self) -> usize {
        self.offload.as_ref().map_or(0, Offload::in_flight)
    }

    /// A worker that has served enough goes on while transfers are under way, for `worker-reload-mercy` at most: nobody takes its place before it is gone.
    /// `another`: the last request leaves one.
    pub fn stays_for_transfers(&self, another: bool) -> bool {
        if !another && self.in_flight() == 0 {
            return false;
        }
        let now = monotonic_ms();
        let until = now + u64::from(self.settings.reload.worker_mercy) * 1000;
        let until = self.stays_until.compare_exchange(0, until, SeqCst, SeqCst).map_or_else(|set| set, |_| until);
        now < until
    }

    /// A worker that ends of its own accord does not wait for transfers: nobody would serve in its place, and nobody bounds the time.
    pub fn leave_transfers(&self) {
        self.alone.store(true, SeqCst);
    }

    /// All threads end after what they do now.
    pub fn finish(&self, code: i32) {
        self.census.drain();
        self.exit_code.store(code, SeqCst);
        self.finished.store(true, SeqCst);
        signals::wake();
    }

    pub fn finished(&self) -> bool {
        self.finished.load(SeqCst)
    }

    pub fn exit_code(&self) -> i32 {
        self.exit_code.load(SeqCst)
    }
}
