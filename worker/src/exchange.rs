//! One request's whole way: parsed, served, accounted for, logged.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::http::{self, ConnInfo, Framing};
use imperator_protocol::packet::{Packet, modifier, push_ping_reply};
use imperator_protocol::proxy;
use imperator_protocol::response::{CONTINUE, push_error_page};
use imperator_protocol::vars::Vars;
use imperator_sys::signals;

use crate::account::{self, Spent};
use crate::body::Body;
use crate::clock;
use crate::connection::Connection;
use crate::control::{FromWorker, exit};
use crate::intake::{self, Incoming, Intake, Refusal, What};
use crate::language::{After, NoLock};
use crate::log::{self, Record, diag};
use crate::request::{BodyError, Parts, Request};
use crate::response::{Response, Terms};
use crate::scoreboard::WorkerCell;
use crate::settings::Protocol;
use crate::socket;
use crate::thread::{Next, Thread};

/// Bytes of an unread body that are thrown away so that another request can follow.
const SKIP: usize = 256 * 1024;

/// What a served request leaves.
struct Served {
    next: Next,
    after: After,
    /// Bytes of the connection's buffer that are used.
    used: usize,
    /// Bytes of what follows that the body read from the socket.
    extra: Vec<u8>,
}

impl Thread<'_> {
    /// Does what the bytes in the connection's buffer ask for.
    pub(crate) fn exchange(&mut self, connection: &mut Connection) -> Next {
        if !self.read_proxy_line(connection) {
            return Next::Close;
        }
        let whole = connection.ended || connection.overdue;
        let shared = self.shared;
        let Connection { buffer, protocol, .. } = &*connection;
        let request = &shared.settings.request;
        let intake = match protocol {
            Protocol::Uwsgi => intake::uwsgi(buffer.data(), shared.limits, &shared.modifiers, whole),
            Protocol::Http | Protocol::Http11 => {
                intake::http(buffer.data(), shared.limits, (request.http_modifier1, request.http_modifier2), whole)
            }
        };
        match intake {
            Intake::More { .. } if whole => Next::Close,
            Intake::More { total, body, expects_continue } => {
                (connection.wanted, connection.in_body) = (total, body);
                if body && expects_continue && !std::mem::replace(&mut connection.continued, true) {
                    let _ = socket::try_send(connection.socket.as_fd(), &[IoSlice::new(CONTINUE)], false);
                }
                Next::Receive
            }
            Intake::Refused(refusal) => self.refuse(connection, &refusal),
            Intake::Packet(packet) => answer_packet(connection, packet),
            Intake::Request(incoming) if shared.modifiers.contains(&incoming.modifier1) => {
                let served = self.serve(connection, incoming);
                self.settle(connection, served)
            }
            Intake::Request(incoming) => unavailable(incoming.modifier1),
        }
    }

    /// Takes a PROXY line off the start of an HTTP connection where the configuration expects one.
    fn read_proxy_line(&mut self, connection: &mut Connection) -> bool {
        if connection.proxied || connection.protocol == Protocol::Uwsgi || !self.shared.settings.request.enable_proxy_protocol {
            return true;
        }
        match proxy::parse(connection.buffer.data()) {
            Ok(Some(line)) => {
                if let Some(proxied) = line.proxied {
                    connection.peer = proxied.source.ip().into();
                }
                connection.buffer.consume(line.length);
                connection.proxied = true;
                true
            }
            Ok(None) => !connection.ended,
            Err(error) => {
                diag::say(&format!("a connection to {} is closed: {error}", self.listener_name(connection)));
                false
            }
        }
    }

    fn listener_name(&self, connection: &Connection) -> &str {
        self.shared.config.boot.listeners.get(connection.listener).map_or("", |l| &l.name)
    }

    fn serve(&mut self, connection: &Connection, incoming: Incoming<'_>) -> Served {
        let shared = self.shared;
        let refused = |next| Served { next, after: After::Continue, used: 0, extra: vec![] };
        let Some(board) = self.board else { return refused(Next::Close) };
        let mut terms = Terms::default();
        let mut expects_continue = false;
        let vars = match incoming.what {
            What::Vars(vars) => vars,
            What::Head(head) => {
                terms = terms_of(&head, connection.protocol, shared.draining());
                expects_continue = head.expects_continue() && !connection.continued;
                self.scratch.vars.clear();
                if let Err(error) = self.make_vars(connection, &head) {
                    return refused(self.refuse(connection, &Refusal::Head(error)));
                }
                match Vars::parse(&self.scratch.vars) {
                    Ok(vars) => vars,
                    Err(error) => return refused(self.refuse(connection, &Refusal::Vars(error))),
                }
            }
        };
        let settings = &shared.settings.request;
        let ahead = &connection.buffer.data()[incoming.length..];
        let mut body = match incoming.body {
            Framing::None => Body::with_length(connection.socket.as_fd(), settings, ahead, 0),
            Framing::Length(length) => Body::with_length(connection.socket.as_fd(), settings, ahead, length),
            Framing::Chunked => Body::chunked(connection.socket.as_fd(), settings, ahead),
        };
        (body.expects_continue, body.overdue) = (expects_continue, connection.overdue);
        let response = Response::new(
            connection.socket.as_fd(),
            settings,
            vars.get(b"SERVER_PROTOCOL").unwrap_or_default(),
            terms,
            &mut self.scratch.head,
        );
        self.scratch.logvars.clear();
        let mut request = Request::new(Parts {
            socket: connection.socket.as_fd(),
            protocol: connection.protocol,
            vars,
            modifier1: incoming.modifier1,
            modifier2: incoming.modifier2,
            core: self.core,
            body,
            response,
            logvars: &mut self.scratch.logvars,
            board,
        });

        let (start, began) = (clock::epoch_micros(), std::time::Instant::now());
        account::begin(board, shared.settings, vars.payload(), start);
        shared.begin_request();
        let busy = signals::busy();
        let (after, is_static) = if signals::pending() & signals::STOP != 0 {
            request.fail(503, &NoLock);
            (After::Continue, false)
        } else {
            run(shared, &mut request, &mut self.scratch.path)
        };
        let outcome = request.finish();
        drop(busy);
        request.body().skip(SKIP);
        let (keep, used, extra) = match request.body().end() {
            Some(end) => (outcome.keep, incoming.length + end.ahead, end.raw.to_vec()),
            None => (false, 0, vec![]),
        };
        let unread = request.body().end().is_none();
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);

        let response = request.response();
        let spent = Spent {
            micros,
            bytes: response.head_bytes() + response.body_bytes(),
            app: request.app(),
            is_static,
            write_errors: response.write_errors(),
            read_errors: request.read_errors(),
            failed: request.failed() || response.write_errors() + request.read_errors() > 0,
        };
        let mut record = Record {
            vars: Some(vars),
            logvars: b"",
            pid: shared.pid,
            worker: shared.config.worker,
            core: self.core,
            app: spent.app,
            app_requests: -1,
            total_requests: 0,
            modifier1: incoming.modifier1,
            modifier2: incoming.modifier2,
            packet_size: vars.payload().len(),
            status: response.status(),
            headers: response.headers(),
            head_bytes: response.head_bytes(),
            body_bytes: response.body_bytes(),
            content_length: if let Framing::Length(length) = incoming.body { length } else { 0 },
            start,
            micros,
            vsz: 0,
            rss: 0,
            write_errors: spent.write_errors,
            read_errors: spent.read_errors,
            by_sendfile: response.by_sendfile(),
        };
        if let Some(missing) = outcome.short {
            let (method, uri) = (record.text(b"REQUEST_METHOD"), record.text(b"REQUEST_URI"));
            diag::say(&format!("the response to {method} {uri} ended {missing} bytes before its Content-Length"));
        }
        (record.app_requests, record.total_requests) = account::end(&shared.config.scoreboard, board, spent);
        shared.end_request();
        let memory = self.meter.read();
        if memory.vsz > 0 {
            (record.vsz, record.rss) = (memory.vsz, memory.rss);
            board.worker.cell(WorkerCell::Vsz).store(memory.vsz, Relaxed);
            board.worker.cell(WorkerCell::Rss).store(memory.rss, Relaxed);
        }
        record.logvars = &self.scratch.logvars;
        write_record(shared, &record, &mut self.scratch.times, &mut self.scratch.line);
        let lived = (clock::monotonic_ms() - shared.born) / 1000;
        let enough = account::has_served_enough(
            &shared.settings.limits,
            shared.max_requests,
            shared.slot.get(WorkerCell::DeltaRequests),
            lived,
            memory,
        );
        let after = if enough && after == After::Continue { After::Exit(exit::RELOAD) } else { after };
        let next = if keep && after == After::Continue {
            Next::Keep
        } else if unread {
            Next::Linger
        } else {
            Next::Close
        };
        Served { next, after, used, extra }
    }

    fn make_vars(&mut self, connection: &Connection, head: &http::Head<'_>) -> Result<(), http::HeadError> {
        let info = ConnInfo {
            remote_addr: connection.peer.as_str(),
            server_name: &self.shared.server_name,
            server_port: self.shared.server_ports.get(connection.listener).map_or("", String::as_str),
            https: false,
            with_script_name: !self.shared.settings.request.manage_script_name,
        };
        http::to_vars(head, &info, &mut self.scratch.vars)
    }

    /// Prepares the connection for what follows.
    fn settle(&mut self, connection: &mut Connection, served: Served) -> Next {
        connection.buffer.consume(served.used);
        connection.buffer.append(&served.extra);
        (connection.wanted, connection.in_body, connection.continued) = (1, false, false);
        connection.served += 1;
        if !self.shared.loyal.swap(true, Relaxed)
            && let Some(link) = &self.shared.config.link
        {
            link.tell(&FromWorker::Loyal);
        }
        if let After::Exit(code) = served.after {
            self.drain(code);
        }
        served.next
    }

    /// Answers what cannot be served, and says why in the log.
    fn refuse(&mut self, connection: &Connection, refusal: &Refusal) -> Next {
        diag::say(&refusal.to_string());
        self.shared.slot.cell(WorkerCell::Failed).fetch_add(1, Relaxed);
        if let Refusal::Vars(_) = refusal {
            let record = self.record_of_nothing(connection);
            write_record(self.shared, &record, &mut self.scratch.times, &mut self.scratch.line);
        }
        let Some(status) = refusal.answer() else { return Next::Close };
        let page = &mut self.scratch.vars;
        page.clear();
        push_error_page(page, b"HTTP/1.1", b"GET", status);
        let _ = socket::try_send(connection.socket.as_fd(), &[IoSlice::new(page)], false);
        Next::Linger
    }

    /// The line of a packet without usable variables.
    fn record_of_nothing(&self, connection: &Connection) -> Record<'static> {
        Record {
            vars: None,
            logvars: b"",
            pid: self.shared.pid,
            worker: self.shared.config.worker,
            core: self.core,
            app: None,
            app_requests: -1,
            total_requests: self.shared.config.scoreboard.total_requests().load(Relaxed),
            modifier1: connection.buffer.data().first().copied().unwrap_or(0),
            modifier2: connection.buffer.data().get(3).copied().unwrap_or(0),
            packet_size: connection.buffer.data().len().saturating_sub(4),
            status: 500,
            headers: 0,
            head_bytes: 0,
            body_bytes: 0,
            content_length: 0,
            start: clock::epoch_micros(),
            micros: 0,
            vsz: 0,
            rss: 0,
            write_errors: 0,
            read_errors: 0,
            by_sendfile: false,
        }
    }
}

/// Static files, then the language. Whether it was a file.
fn run(shared: &crate::shared::Shared<'_>, request: &mut Request<'_>, path: &mut Vec<u8>) -> (After, bool) {
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
        (shared.language.serve(request), false)
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

/// What the connection of an HTTP request allows.
fn terms_of(head: &http::Head<'_>, protocol: Protocol, draining: bool) -> Terms {
    let keeps = protocol == Protocol::Http11;
    Terms {
        keep: keeps && head.keep_alive() && !draining,
        chunks: keeps && head.version() == http::Version::Http11,
        announce: keeps,
        strict: true,
        head_request: head.method() == b"HEAD",
    }
}

/// Packets that no language sees.
fn answer_packet(connection: &Connection, packet: Packet<'_>) -> Next {
    match packet.header.modifier1 {
        modifier::PING => {
            diag::say("PING");
            let mut reply = vec![];
            push_ping_reply(&mut reply, b"");
            let _ = socket::try_send(connection.socket.as_fd(), &[IoSlice::new(&reply)], false);
            Next::Close
        }
        modifier::ECHO => {
            let _ = socket::try_send(connection.socket.as_fd(), &[IoSlice::new(packet.payload)], false);
            Next::Close
        }
        other => unavailable(other),
    }
}

fn unavailable(modifier1: u8) -> Next {
    diag::say(&format!("-- unavailable modifier requested: {modifier1} --"));
    Next::Close
}

fn write_record(shared: &crate::shared::Shared<'_>, record: &Record<'_>, times: &mut log::Times, line: &mut Vec<u8>) {
    if !log::wanted(&shared.settings.log, record) {
        return;
    }
    log::compose(&shared.format, shared.settings, record, times, line);
    match &*shared.request_log.read().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(fd) => diag::write_all(fd.as_fd(), line),
        None => diag::write_all(std::io::stderr().as_fd(), line),
    }
}
