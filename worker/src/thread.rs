//! A request thread: takes what is ready and goes the whole way with it itself.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::http::Places;
use imperator_protocol::response::ResponseHead;
use imperator_sys::{process, signals};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::AsRawFd;

use crate::account::Meter;
use crate::buffer::Pool;
use crate::clock::Clock;
use crate::connection::{Connection, Received};
use crate::control::{ToWorker, exit};
use crate::lead::Lead;
use crate::log::{Times, diag};
use crate::offload::Pieces;
use crate::request::Board;
use crate::scoreboard::{CoreCell, WorkerCell};
use crate::settings::Protocol;
use crate::shared::{Batch, Event, Shared};

/// Connections that a thread accepts in a row before it looks at those that wait.
const BURST: usize = 64;
/// Requests of one connection that a thread serves in a row before others have their turn.
const TURNS: usize = 64;
/// Milliseconds for a peer to stop sending after its connection was closed by us, and bytes it may still send.
const LINGER_MS: u64 = 2000;
const LINGER_BYTES: usize = 256 * 1024;
/// Milliseconds for the first byte of a connection that was accepted just before a graceful end.
const LAST_CALL_MS: u64 = 2000;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More bytes are needed.
    Receive,
    /// The next request may come.
    Keep,
    Close,
    /// As `Close`, but what the peer still sends has to be read, or it would see a reset before our answer.
    Linger,
}

/// Memory that is used again for each request.
#[derive(Default)]
pub(crate) struct Scratch {
    pub head: ResponseHead,
    /// Where the headers of an HTTP head are, and the variables made of it.
    pub places: Places,
    pub vars: Vec<u8>,
    pub logvars: Vec<u8>,
    pub line: Vec<u8>,
    pub path: Vec<u8>,
    pub times: Times,
}

pub(crate) struct Thread<'s> {
    pub shared: &'s Shared<'s>,
    pub core: u32,
    pub board: Option<Board<'s>>,
    pub scratch: Scratch,
    pub meter: Meter,
    pub clock: Clock,
    pool: Pool,
    batch: Batch,
    /// This thread is the one that waits for events.
    leads: bool,
    /// What else there is to accept may be for other workers: it left a response to the engine, or a body is on its way.
    has_enough: bool,
}

/// Serves until the worker ends.
pub(crate) fn run(shared: &Shared<'_>, core: u32) {
    let mut thread = Thread::new(shared, core);
    while !shared.finished() {
        thread.turn();
    }
    if let Some(lead) = &shared.lead {
        lead.end();
    }
    // Whoever still sleeps may have missed the wake-up that this thread took for itself.
    signals::wake();
}

impl<'s> Thread<'s> {
    pub fn new(shared: &'s Shared<'s>, core: u32) -> Self {
        Self {
            shared,
            core,
            board: shared.slot.core(core).map(|slot| Board { worker: shared.slot, core: slot }),
            scratch: Scratch::default(),
            meter: Meter::new(shared.settings),
            clock: Clock::default(),
            pool: Pool::default(),
            batch: Batch::default(),
            leads: false,
            has_enough: false,
        }
    }

    /// Waits for one event and does what it is about.
    pub fn turn(&mut self) {
        if signals::pending() != 0 {
            self.clock.forget();
            return self.act_on_signals();
        }
        self.take_lead();
        if self.batch.is_over() {
            self.clock.forget();
        }
        let event = self.shared.next(&mut self.batch);
        match event {
            Event::Listener(index) => return self.accept_from(index),
            Event::Waiting(ticket) => {
                if let Some(connection) = self.shared.take(ticket) {
                    self.work_on(connection);
                }
                return;
            }
            Event::Timer => self.end_waits(),
            Event::Link => self.hear_master(),
            Event::Wake => self.wake_up(),
            Event::Nothing => {}
        }
        self.clock.forget();
    }
}

impl Thread<'_> {
    fn take_lead(&mut self) {
        if !std::mem::replace(&mut self.leads, true)
            && let Some(lead) = &self.shared.lead
        {
            lead.take(&mut self.clock);
        }
    }

    /// What follows may take its time: others may wait for events meanwhile.
    fn give_lead_up(&mut self) {
        if std::mem::take(&mut self.leads)
            && let Some(lead) = &self.shared.lead
        {
            lead.give_up(&mut self.clock);
        }
    }

    fn accept_from(&mut self, index: usize) {
        let Some(listener) = self.shared.config.listeners.get(index) else { return };
        let Some(protocol) = self.shared.config.boot.listeners.get(index).map(|l| l.protocol) else { return };
        let kept = self.shared.keeps(index);
        if kept && !self.shared.may_take() {
            return;
        }
        for _ in 0..if kept { 1 } else { BURST } {
            if !self.shared.accepting() || signals::pending() != 0 || !self.may_accept() {
                return;
            }
            match imperator_sys::socket::accept(listener.as_fd()) {
                Ok(socket) => {
                    self.shared.arrived(protocol);
                    if kept {
                        self.shared.queue_anew(index);
                    }
                    self.work_on(Connection::new(socket, index, protocol));
                    if std::mem::take(&mut self.has_enough) {
                        return;
                    }
                }
                // The client was gone before it was accepted, or another passing matter of its own.
                Err(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO | Errno::EPERM) => {}
                Err(Errno::EAGAIN) => return,
                Err(error) => return self.wait_for_room(error),
            }
        }
    }

    /// Not once another thread waits for events: the next connection is its own.
    fn may_accept(&self) -> bool {
        self.leads || self.shared.lead.as_ref().is_none_or(Lead::is_vacant)
    }

    /// This worker alone may have been woken for a connection that it has not taken yet: nobody else would come for it.
    /// One for each thread that slept; whatever more there is has woken another worker.
    fn accept_leftovers(&mut self) {
        let mut leftovers = vec![];
        for (index, listener) in self.shared.config.listeners.iter().enumerate() {
            let Some(protocol) = self.shared.config.boot.listeners.get(index).map(|l| l.protocol) else { continue };
            for _ in 0..self.shared.settings.process.threads.max(1) {
                let Ok(socket) = imperator_sys::socket::accept(listener.as_fd()) else { break };
                self.shared.arrived(protocol);
                leftovers.push(Connection::new(socket, index, protocol));
            }
        }
        // All are counted before the first is done: the last one that goes ends this worker.
        leftovers.into_iter().for_each(|connection| self.work_on(connection));
    }

    /// No descriptors, no memory, or worse: asking again at once would be a busy loop.
    fn wait_for_room(&self, error: Errno) {
        if self.shared.starve() {
            let advice = if matches!(error, Errno::EMFILE | Errno::ENFILE) { "; raise max-fd or the limits of the service" } else { "" };
            diag::say(&format!("no connection can be accepted for a moment: {error}{advice}"));
        }
    }

    /// Goes on with a connection until it has to wait or ends. The line of its last request is written when that is done: no client waits for the log.
    pub(crate) fn work_on(&mut self, connection: Connection) {
        self.give_lead_up();
        self.go_on(connection);
        self.write_line();
    }

    fn go_on(&mut self, mut connection: Connection) {
        if connection.lingering.is_some() {
            return self.linger(connection);
        }
        connection.buffer.unpark(&mut self.pool);
        for _ in 0..TURNS {
            if connection.body.is_some() {
                self.clock.forget();
            }
            if !connection.collect(&self.shared.settings.request) {
                self.has_enough = true;
                return self.park(connection);
            }
            if connection.buffer.data().len() < connection.wanted && !connection.ended && !connection.overdue {
                match connection.receive() {
                    Ok(Received::Some | Received::End) => {}
                    Ok(Received::Nothing) => return self.park(connection),
                    Err(_) => return self.close(connection),
                }
                if connection.buffer.data().len() < connection.wanted && !connection.ended {
                    continue;
                }
            }
            self.write_line();
            let next = self.exchange(&mut connection);
            if let Some(rest) = connection.rest.take() {
                return self.send_beside(connection, *rest, next);
            }
            match next {
                Next::Receive => {}
                Next::Keep if connection.has_bytes() => {}
                Next::Keep if self.shared.draining() => return self.close(connection),
                Next::Keep => return self.park(connection),
                Next::Close => return self.close(connection),
                Next::Linger => return self.linger(connection),
            }
        }
        self.park(connection);
    }

    /// Has the rest of a response sent by the engine; the connection comes back if anything follows.
    fn send_beside(&mut self, mut connection: Connection, pieces: Pieces, next: Next) {
        let Some(offload) = &self.shared.offload else { return self.close(connection) };
        connection.buffer.park(&mut self.pool);
        self.shared.lend(&mut connection);
        self.shared.let_others_send(connection.listener);
        self.has_enough = true;
        offload.send(connection, pieces, next);
    }

    /// Something may have come back from the engine, or the last of a worker that drains may have ended there.
    fn wake_up(&mut self) {
        signals::quiet();
        let Some(offload) = &self.shared.offload else { return };
        for (connection, next) in offload.take_returned() {
            self.shared.take_back(&connection);
            match next {
                Next::Linger => self.linger(connection),
                _ if self.shared.draining() && !connection.has_bytes() => self.close(connection),
                _ => self.work_on(connection),
            }
        }
        let failed = offload.take_failed();
        if let Some(board) = self.board.filter(|_| failed > 0) {
            board.core.cell(CoreCell::WriteErrors).fetch_add(failed, Relaxed);
            board.worker.cell(WorkerCell::Failed).fetch_add(failed, Relaxed);
        }
        self.shared.finish_drained();
    }

    /// Lets a connection wait: for a request in half `socket-timeout` seconds, for the next one `http-timeout`.
    fn park(&mut self, mut connection: Connection) {
        connection.buffer.park(&mut self.pool);
        let request = &self.shared.settings.request;
        let seconds = if connection.served > 0 && !connection.has_bytes() { request.http_timeout } else { request.socket_timeout };
        self.let_wait(connection, u64::from(seconds) * 1000);
    }

    fn let_wait(&self, connection: Connection, milliseconds: u64) {
        self.shared.park(connection, self.clock.about_ms() + milliseconds);
    }

    fn close(&mut self, mut connection: Connection) {
        self.pool.give(std::mem::take(&mut connection.buffer));
        self.shared.left(connection);
    }

    /// Ends our side and throws away what the peer still sends.
    fn linger(&mut self, mut connection: Connection) {
        if connection.lingering.is_none() {
            let _ = shutdown(connection.socket.as_raw_fd(), Shutdown::Write);
            connection.lingering = Some(LINGER_BYTES);
            self.pool.give(std::mem::take(&mut connection.buffer));
        }
        if connection.drain() || self.shared.draining() { self.close(connection) } else { self.let_wait(connection, LINGER_MS) }
    }

    /// Connections whose peers were silent for too long: a request whose body is all that is missing is the app's to see, everything
    /// else is closed without a byte; of an HTTP head that was begun the log has a line.
    fn end_waits(&mut self) {
        while let Some(mut connection) = self.shared.take_overdue() {
            let begun = connection.in_body || connection.protocol != Protocol::Uwsgi && connection.has_bytes();
            if begun && connection.lingering.is_none() {
                connection.overdue = true;
                self.work_on(connection);
            } else {
                self.close(connection);
            }
        }
    }

    fn act_on_signals(&mut self) {
        let bits = signals::take(u32::MAX);
        if bits & signals::STOP != 0 {
            if self.shared.is_busy() {
                process::exit_now(self.shared.config.stop_code());
            }
            return self.shared.finish(self.shared.config.stop_code());
        }
        if bits & signals::REPORT != 0 {
            self.report();
        }
        if bits & signals::DUMP != 0 {
            self.dump();
        }
        if bits & signals::GRACEFUL != 0 {
            self.drain(exit::RELOAD);
        }
        if bits & signals::QUIT != 0 {
            self.drain(self.shared.config.stop_code());
        }
    }

    /// Stops accepting, closes what is idle, and lets the rest be served.
    pub(crate) fn drain(&mut self, code: i32) {
        if !self.shared.drain(code) {
            return;
        }
        self.accept_leftovers();
        for mut connection in self.shared.take_all(|c| !c.has_bytes()) {
            connection.buffer.unpark(&mut self.pool);
            let idle = connection.served > 0 || connection.lingering.is_some();
            match if connection.lingering.is_some() { Ok(Received::End) } else { connection.receive() } {
                Ok(Received::Some) => self.work_on(connection),
                Ok(Received::Nothing) if !idle => {
                    connection.buffer.park(&mut self.pool);
                    self.let_wait(connection, LAST_CALL_MS);
                }
                _ => self.close(connection),
            }
        }
        self.shared.finish_drained();
    }

    /// What the master says on the control pair.
    fn hear_master(&mut self) {
        let Some(link) = &self.shared.config.link else { return };
        loop {
            match link.next() {
                Ok(Some(packet)) => match packet.message {
                    ToWorker::Pause(paused) => self.shared.pause(paused),
                    ToWorker::Logs => self.take_logs(packet.fds),
                },
                // The master is gone: nobody would replace or stop this worker.
                Ok(None) => return self.drain(exit::END),
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    diag::say(&format!("a message of the master's makes no sense: {error}"))
                }
                Err(_) => return self.shared.rearm_link(),
            }
        }
    }

    /// A new log: descriptors 1 and 2. (The request log's stays: it leads to the master.)
    fn take_logs(&self, fds: Vec<std::os::fd::OwnedFd>) {
        let Some(log) = fds.into_iter().next() else { return };
        for target in [1, 2] {
            if let Err(error) = process::redirect(log.as_fd(), target) {
                diag::say(&format!("the log cannot be reopened: {error}"));
            }
        }
    }

    /// SIGUSR1.
    fn report(&self) {
        let (worker, slot) = (self.shared.config.worker, self.shared.slot);
        diag::say(&format!("worker {worker} total requests: {}", slot.get(WorkerCell::Requests)));
        for app in self.shared.language.apps() {
            let (requests, exceptions) = slot.app(app.id).map_or((0, 0), |(r, e)| (r.load(Relaxed), e.load(Relaxed)));
            diag::say(&format!("worker {worker} app {} [{}] requests: {requests} exceptions: {exceptions}", app.id, app.mountpoint));
        }
    }

    /// SIGUSR2.
    fn dump(&self) {
        for core in 0..self.shared.settings.process.threads.max(1) {
            let Some(slot) = self.shared.slot.core(core) else { continue };
            let state = if slot.get(CoreCell::InRequest) == 1 {
                format!("in a request since {}", slot.get(CoreCell::RequestStart))
            } else {
                "idle".into()
            };
            diag::say(&format!(
                "worker {} (pid: {}) core {core}: {state}, {} requests served",
                self.shared.config.worker,
                self.shared.pid,
                slot.get(CoreCell::Requests)
            ));
        }
    }
}
