//! One request's whole way: served, accounted for, logged.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::http::{self, ConnInfo, Framing};
use imperator_protocol::vars::Vars;
use imperator_sys::signals;

use crate::account::{self, Spent};
use crate::body::Body;
use crate::clock::{self, Clock};
use crate::connection::{Arriving, Connection};
use crate::control::exit;
use crate::intake::{Incoming, Refusal, What};
use crate::language::{After, NoLock};
use crate::log::{self, Record, Via, diag};
use crate::offload::Pieces;
use crate::request::{Board, BodyError, Parts, Request};
use crate::response::{Outcome, Response, Terms};
use crate::scoreboard::WorkerCell;
use crate::settings::Protocol;
use crate::shared::Shared;
use crate::thread::{Next, Scratch, Thread};
use crate::watchdog;

/// Bytes of an unread body that are thrown away so that another request can follow.
const SKIP: usize = 256 * 1024;

/// What a served request leaves.
pub(crate) struct Served {
    pub next: Next,
    pub after: After,
    /// Bytes of the connection's buffer that are used.
    pub used: usize,
    /// Bytes of what follows that the body read from the socket.
    pub extra: Vec<u8>,
    /// What is left of the response.
    pub rest: Option<Box<Pieces>>,
}

/// How a request went.
struct Performed {
    after: After,
    is_static: bool,
    outcome: Outcome,
    /// Epoch microseconds.
    start: u64,
    micros: u64,
}

impl Thread<'_> {
    /// `arriving`: its body, where that was waited for.
    pub(crate) fn serve(&mut self, connection: &Connection, incoming: &Incoming<'_>, arriving: Option<Box<Arriving>>) -> Served {
        let Some(board) = self.board else { return nothing(Next::Close) };
        let shared = self.shared;
        let mut terms = Terms::default();
        if let What::Head(head) = &incoming.what {
            terms = terms_of(head, connection.protocol, shared.draining());
            if let Err(error) = make_vars(shared, connection, head, &mut self.scratch.vars) {
                return nothing(self.refuse(connection, &Refusal::Head(error)));
            }
        }
        let Scratch { head, vars: block, logvars, path, line, times, places: _ } = &mut self.scratch;
        let vars = match &incoming.what {
            What::Vars(vars) => *vars,
            What::Head(_) => Vars::made(block),
        };
        logvars.clear();
        let mut request = Request::new(Parts {
            socket: connection.socket.as_fd(),
            protocol: connection.protocol,
            settings: &shared.settings.request,
            vars,
            modifier1: incoming.modifier1,
            modifier2: incoming.modifier2,
            core: self.core,
            body: body_of(shared, connection, incoming, arriving.map(|body| *body)),
            response: Response::new(
                connection.socket.as_fd(),
                &shared.settings.request,
                incoming.version,
                terms,
                head,
                shared.offload.as_ref(),
            ),
            logvars,
            board,
        });
        let performed = perform(shared, board, &mut request, path, &mut self.clock);
        let mut served = what_follows(&mut request, &performed, incoming.length);
        served.rest = request.take_rest();

        let spent = spent(shared, &request, &performed);
        let mut record = record(shared, &request, incoming, &performed, vars);
        (record.app_requests, record.total_requests) = account::end(&shared.config.scoreboard, board, spent);
        shared.end_request();
        let memory = self.meter.read();
        if memory.vsz > 0 {
            self.clock.forget();
            (record.vsz, record.rss) = (memory.vsz, memory.rss);
            board.worker.cell(WorkerCell::Vsz).store(memory.vsz, Relaxed);
            board.worker.cell(WorkerCell::Rss).store(memory.rss, Relaxed);
        }
        if let Some(missing) = performed.outcome.short {
            let (method, uri) = (record.text(b"REQUEST_METHOD"), record.text(b"REQUEST_URI"));
            diag::say(&format!("the response to {method} {uri} ended {missing} bytes before its Content-Length"));
        }
        compose_line(shared, &record, times, line);

        let lived = || (clock::monotonic_ms() - shared.born) / 1000;
        let delta = shared.slot.get(WorkerCell::DeltaRequests);
        let enough = account::has_served_enough(&shared.settings.limits, shared.max_requests, delta, lived, memory);
        if served.after == After::Continue && enough && !shared.stays_for_transfers(served.rest.is_some()) {
            served.after = After::Exit(exit::RELOAD);
        }
        if served.after != After::Continue && served.next == Next::Keep {
            served.next = Next::Close;
        }
        served
    }

    /// The line of a packet without usable variables.
    pub(crate) fn log_nothing(&mut self, connection: &Connection) {
        let packet = connection.buffer.data();
        let record = Record {
            app_requests: -1,
            total_requests: self.shared.config.scoreboard.total_requests().load(Relaxed),
            modifier1: packet.first().copied().unwrap_or(0),
            modifier2: packet.get(3).copied().unwrap_or(0),
            packet_size: packet.len().saturating_sub(4),
            status: 500,
            start: clock::epoch_micros(),
            pid: self.shared.pid,
            worker: self.shared.config.worker,
            core: self.core,
            ..Record::default()
        };
        compose_line(self.shared, &record, &mut self.scratch.times, &mut self.scratch.line);
    }

    /// Writes the line of the request that was served last, if it has one that is not written yet.
    pub(crate) fn write_line(&mut self) {
        let line = &mut self.scratch.line;
        if line.is_empty() {
            return;
        }
        match &self.shared.config.request_log {
            Some(fd) => diag::write_all(fd.as_fd(), line),
            None => diag::write_all(std::io::stderr().as_fd(), line),
        }
        line.clear();
        self.clock.forget();
    }
}

/// A request that was not served.
fn nothing(next: Next) -> Served {
    Served { next, after: After::Continue, used: 0, extra: vec![], rest: None }
}

/// REMOTE_ADDR and SERVER_PORT on a unix socket, as uWSGI gives them: frameworks make a number of the port.
const UNIX_PEER: &str = "0.0.0.0";
const UNIX_PORT: &str = "80";

fn known<'t>(text: &'t str, otherwise: &'t str) -> &'t str {
    if text.is_empty() { otherwise } else { text }
}

/// Turns an HTTP head into variables.
fn make_vars(shared: &Shared<'_>, connection: &Connection, head: &http::Head<'_>, vars: &mut Vec<u8>) -> Result<(), http::HeadError> {
    let info = ConnInfo {
        remote_addr: known(connection.peer.as_str(), UNIX_PEER),
        server_name: &shared.server_name,
        server_port: known(shared.server_ports.get(connection.listener).map_or("", String::as_str), UNIX_PORT),
        https: false,
        with_script_name: !shared.settings.request.manage_script_name,
    };
    vars.clear();
    http::to_vars(head, &info, vars)
}

/// What the connection of an HTTP request allows.
fn terms_of(head: &http::Head<'_>, protocol: Protocol, draining: bool) -> Terms {
    let keeps = protocol == Protocol::Http11;
    Terms {
        http: true,
        announce: keeps,
        keep: keeps && head.keep_alive() && !draining,
        version: head.version(),
        head_request: head.method() == b"HEAD",
    }
}

/// The body, as far as it is there, if the request is not to be served before more of it has arrived.
pub(crate) fn body_first(shared: &Shared<'_>, connection: &Connection, incoming: &Incoming<'_>) -> Option<Arriving> {
    let there = connection.buffer.data().len() - incoming.length;
    let missing = match incoming.body {
        Framing::None => false,
        Framing::Length(length) => length > there as u64,
        Framing::Chunked => true,
    };
    let known = connection.body.is_some() || connection.ended || connection.overdue;
    if known || !missing {
        return None;
    }
    if shared.settings.request.post_buffering > 0 {
        let mut body = body_of(shared, connection, incoming, None);
        body.collect();
        return body.part().map(Arriving::Whole);
    }
    // (Chunked bodies are streamed: they may be conversations.)
    let Framing::Length(length) = incoming.body else { return None };
    let mut ahead = shared.bodies.begin(length, &connection.buffer.data()[incoming.length..])?;
    ahead.collect(connection.socket.as_fd());
    Some(Arriving::Ahead(ahead))
}

fn body_of<'c>(shared: &'c Shared<'_>, connection: &'c Connection, incoming: &Incoming<'c>, arriving: Option<Arriving>) -> Body<'c> {
    let (socket, settings) = (connection.socket.as_fd(), &shared.settings.request);
    let ahead = &connection.buffer.data()[incoming.length..];
    if let Some(arriving) = arriving {
        let mut body = match arriving {
            Arriving::Whole(collected) => Body::collected(socket, settings, collected),
            Arriving::Ahead(beginning) => Body::begun(socket, settings, beginning, ahead),
        };
        body.overdue = connection.overdue;
        return body;
    }
    let mut body = match incoming.body {
        Framing::None => Body::with_length(socket, settings, ahead, 0),
        Framing::Length(length) => Body::with_length(socket, settings, ahead, length),
        Framing::Chunked => Body::chunked(socket, settings, ahead),
    };
    body.overdue = connection.overdue;
    body.expects_continue = match &incoming.what {
        What::Head(head) => head.expects_continue() && !connection.continued,
        What::Vars(_) => false,
    };
    body
}

/// Has the request answered. From its begin to its end a stop at once ends the process from the signal handler.
fn perform(shared: &Shared<'_>, board: Board<'_>, request: &mut Request<'_>, path: &mut Vec<u8>, clock: &mut Clock) -> Performed {
    let (start, began) = (clock.wall(), clock.now());
    account::begin(board, shared.settings, request.vars().payload(), start, began);
    shared.begin_request();
    if shared.has_sleepers {
        watchdog::rouse(shared);
    }
    let _busy = signals::busy();
    let (after, is_static) = if signals::pending() & signals::STOP != 0 {
        request.fail(503, &NoLock);
        (After::Continue, false)
    } else {
        answer(shared, request, path)
    };
    let outcome = request.finish();
    Performed { after, is_static, outcome, start, micros: clock.read().saturating_sub(began) }
}

/// Static files, then the language. Whether it was a file.
fn answer(shared: &Shared<'_>, request: &mut Request<'_>, path: &mut Vec<u8>) -> (After, bool) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if shared.statics.serve(request, path) {
            return (After::Continue, true);
        }
        if shared.settings.request.post_buffering > 0
            && let Err(error) = request.body().store(&NoLock)
        {
            refuse_body(request, &error);
            return (After::Continue, false);
        }
        let after = shared.language.serve(request);
        if let Some(file) = request.take_diversion() {
            shared.statics.serve_path(request, &file);
        }
        (after, false)
    }));
    outcome.unwrap_or_else(|_| {
        let text = |name: &[u8]| String::from_utf8_lossy(request.var(name).unwrap_or_default()).into_owned();
        diag::say(&format!("a bug in Imperator: panic while serving {} {}", text(b"REQUEST_METHOD"), text(b"REQUEST_URI")));
        request.fail(500, &NoLock);
        (After::Continue, false)
    })
}

/// A body that could not be read whole never reaches the app.
fn refuse_body(request: &mut Request<'_>, error: &BodyError) {
    diag::say(&format!("post-buffering: {error}"));
    let status = match error {
        BodyError::Timeout(_) => 408,
        BodyError::Io(_) => 500,
        _ => 400,
    };
    request.fail(status, &NoLock);
}

/// What becomes of the connection: kept if both the response and the body came to their ends.
fn what_follows(request: &mut Request<'_>, performed: &Performed, head_length: usize) -> Served {
    request.body().skip(SKIP);
    match request.body().end() {
        Some(end) => Served {
            next: if performed.outcome.keep { Next::Keep } else { Next::Close },
            after: performed.after,
            used: head_length + end.ahead,
            extra: end.raw.to_vec(),
            rest: None,
        },
        None => Served { after: performed.after, ..nothing(Next::Linger) },
    }
}

/// With `offload-threads` set, files count as offloaded however little of them was left to the engine: that is what uWSGI's numbers say.
fn via(shared: &Shared<'_>, performed: &Performed, response: &Response<'_>) -> Via {
    // (Small files come from memory.)
    let is_file = response.has_file() || performed.is_static && response.body_bytes() > 0;
    match (response.is_offloaded(), is_file) {
        (true, _) => Via::Offload,
        (false, true) if shared.settings.request.offload_threads.is_some_and(|n| n > 0) => Via::Offload,
        (false, true) => Via::Sendfile,
        (false, false) => Via::Worker,
    }
}

fn spent(shared: &Shared<'_>, request: &Request<'_>, performed: &Performed) -> Spent {
    let response = request.response();
    Spent {
        micros: performed.micros,
        bytes: response.head_bytes() + response.body_bytes(),
        app: request.app(),
        is_static: performed.is_static,
        is_offloaded: via(shared, performed, response) == Via::Offload,
        write_errors: response.write_errors(),
        read_errors: request.read_errors(),
        failed: request.failed() || response.write_errors() + request.read_errors() > 0,
    }
}

/// What the log says, without the counters.
fn record<'r>(shared: &Shared<'_>, request: &'r Request<'_>, incoming: &Incoming<'_>, performed: &Performed, vars: Vars<'r>) -> Record<'r> {
    let response = request.response();
    Record {
        vars: Some(vars),
        logvars: request.logvars(),
        added: request.added_vars(),
        asked: request.is_log_asked(),
        pid: shared.pid,
        worker: shared.config.worker,
        core: request.core(),
        app: request.app(),
        modifier1: incoming.modifier1,
        modifier2: incoming.modifier2,
        packet_size: vars.payload().len(),
        status: response.status(),
        headers: response.headers(),
        head_bytes: response.head_bytes(),
        body_bytes: response.body_bytes(),
        content_length: if let Framing::Length(length) = incoming.body { length } else { 0 },
        start: performed.start,
        micros: performed.micros,
        write_errors: response.write_errors(),
        read_errors: request.read_errors(),
        via: via(shared, performed, response),
        ..Record::default()
    }
}

/// Makes the request's line, for [`Thread::write_line`].
fn compose_line(shared: &Shared<'_>, record: &Record<'_>, times: &mut log::Times, line: &mut Vec<u8>) {
    if log::wanted(&shared.settings.log, record) {
        log::compose(&shared.format, shared.settings, record, times, line);
    }
}
