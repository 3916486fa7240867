//! What the bytes of a connection ask for: a request, a packet for the worker itself, or nothing that can be served.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::packet::{Packet, modifier, push_ping_reply};
use imperator_protocol::proxy;
use imperator_protocol::response::{CONTINUE, push_error_page};

use crate::cache_server;
use crate::connection::Connection;
use crate::control::FromWorker;
use crate::intake::{self, Intake, Refusal};
use crate::language::After;
use crate::log::diag;
use crate::scoreboard::WorkerCell;
use crate::serving::{Served, body_first};
use crate::settings::Protocol;
use crate::socket;
use crate::thread::{Next, Thread};

impl Thread<'_> {
    /// Does what the bytes in the connection's buffer ask for.
    pub(crate) fn exchange(&mut self, connection: &mut Connection) -> Next {
        if !self.read_proxy_line(connection) {
            return Next::Close;
        }
        let whole = connection.ended || connection.overdue || connection.body.is_some();
        let shared = self.shared;
        // Not as parts of the whole: the body that is collected changes hands while the others are read.
        let (buffer, protocol) = (&connection.buffer, &connection.protocol);
        let request = &shared.settings.request;
        let mut places = std::mem::take(&mut self.scratch.places);
        let intake = match protocol {
            Protocol::Uwsgi => intake::uwsgi(buffer.data(), shared.limits, &shared.modifiers, whole),
            Protocol::Http | Protocol::Http11 => {
                intake::http(buffer.data(), shared.limits, (request.http_modifier1, request.http_modifier2), whole, &mut places)
            }
        };
        let next = match intake {
            Intake::More { .. } if connection.overdue => self.refuse(connection, &Refusal::Late(request.socket_timeout)),
            Intake::More { .. } if whole => Next::Close,
            Intake::More { total, body, expects_continue } => {
                (connection.wanted, connection.in_body) = (total, body);
                if body && expects_continue && !std::mem::replace(&mut connection.continued, true) {
                    let _ = socket::try_send(connection.socket.as_fd(), &[IoSlice::new(CONTINUE)], false);
                }
                Next::Receive
            }
            Intake::Refused(refusal) => self.refuse(connection, &refusal),
            Intake::Packet(packet) if packet.header.modifier1 == modifier::CACHE => {
                self.clock.forget();
                let length = packet.length();
                match crate::host::host() {
                    Some(host) => cache_server::answer(host.caches(), connection, length, request.socket_timeout),
                    None => unavailable(modifier::CACHE),
                }
            }
            Intake::Packet(packet) => answer_packet(connection, packet),
            Intake::Request(incoming) if shared.modifiers.contains(&incoming.modifier1) => {
                match body_first(shared, connection, &incoming) {
                    Some(body) => {
                        let length = incoming.length;
                        connection.begin_body(body, length);
                        Next::Receive
                    }
                    None => {
                        let body = connection.body.take();
                        let served = self.serve(connection, &incoming, body);
                        self.settle(connection, served)
                    }
                }
            }
            Intake::Request(incoming) => unavailable(incoming.modifier1),
        };
        self.scratch.places = places;
        next
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

    /// Prepares the connection for what follows.
    fn settle(&mut self, connection: &mut Connection, served: Served) -> Next {
        connection.buffer.consume(served.used);
        connection.buffer.append(&served.extra);
        (connection.wanted, connection.in_body, connection.continued) = (1, false, false);
        connection.served += 1;
        connection.rest = served.rest;
        if !self.shared.loyal.load(Relaxed)
            && !self.shared.loyal.swap(true, Relaxed)
            && let Some(link) = &self.shared.config.link
        {
            link.tell(&FromWorker::Loyal);
        }
        if let After::Exit(code) = served.after {
            self.write_line();
            self.shared.leave_transfers();
            self.drain(code);
        }
        served.next
    }

    /// Answers what cannot be served, and says why in the log.
    pub(crate) fn refuse(&mut self, connection: &Connection, refusal: &Refusal) -> Next {
        self.clock.forget();
        diag::say(&refusal.to_string());
        self.shared.slot.cell(WorkerCell::Failed).fetch_add(1, Relaxed);
        if let Refusal::Vars(_) = refusal {
            self.log_nothing(connection);
        }
        let Some(status) = refusal.answer() else { return Next::Close };
        let page = &mut self.scratch.vars;
        page.clear();
        push_error_page(page, b"HTTP/1.1", b"GET", status);
        let _ = socket::try_send(connection.socket.as_fd(), &[IoSlice::new(page)], false);
        Next::Linger
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
