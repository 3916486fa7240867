//! Sends statistics where `stats-push` and `carbon` say, without ever waiting for who gets them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use anyhow::Result;
use imperator_worker::log::diag::say;
use imperator_worker::metrics::Row;
use imperator_worker::settings::{Carbon, Settings};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, send, socket};

use super::decide::Ms;
use super::running::Master;
use crate::stats::json;
use crate::stats::push::{Before, Pusher, Switches, To, carbon, datagrams, resolve};

/// How soon a carbon server that takes its time is looked at again.
const SOON: Ms = 50;

#[derive(Default)]
pub struct Pushes {
    pushers: Vec<Active>,
    carbon: Option<Graphite>,
    /// For datagrams, of each family.
    sockets: BTreeMap<bool, UdpSocket>,
}

struct Active {
    pusher: Pusher,
    due: Ms,
    /// The values of the last push.
    before: BTreeMap<String, i64>,
    /// A failure is told once, until it is over.
    failed: bool,
}

struct Graphite {
    options: Carbon,
    servers: Vec<SocketAddr>,
    due: Ms,
    before: Before,
    since: Option<Instant>,
    sending: Vec<Sending>,
    switches: Switches,
}

/// One server's share of a push.
struct Sending {
    address: SocketAddr,
    stream: Option<OwnedFd>,
    text: String,
    sent: usize,
    give_up_at: Ms,
    tries_left: u32,
    next_at: Ms,
}

impl Pushes {
    /// # Errors
    /// A line that cannot be used.
    pub fn new(settings: &Settings, now: Ms) -> Result<Self> {
        let options = &settings.metrics;
        let active = |pusher: Pusher| Active { due: now + Ms::from(pusher.freq) * 1000, pusher, before: BTreeMap::new(), failed: false };
        let pushers = options.push.iter().map(|line| Ok(active(Pusher::parse(line, options)?))).collect::<Result<_>>()?;
        let servers = options.carbon.servers.iter().map(|text| Ok(resolve("carbon", text)?)).collect::<Result<Vec<_>>>()?;
        let carbon = (!servers.is_empty()).then(|| Graphite {
            options: options.carbon.clone(),
            servers,
            due: now + Ms::from(options.carbon.freq.max(1)) * 1000,
            before: Before::default(),
            since: None,
            sending: vec![],
            switches: Switches { cheaper: settings.process.cheaper.is_some(), memory_report: settings.log.memory_report },
        });
        Ok(Self { pushers, carbon, sockets: BTreeMap::new() })
    }

    /// When something is to be sent; `None`: never.
    pub fn next(&self) -> Option<Ms> {
        let carbon = self.carbon.iter().flat_map(|c| c.sending.iter().map(|s| s.next_at).chain([c.due]));
        self.pushers.iter().map(|p| p.due).chain(carbon).min()
    }
}

impl Master {
    /// Sends what is due.
    pub(super) fn pushes_due(&mut self, now: Ms) {
        if self.pushes.next().is_none_or(|at| at > now) {
            return;
        }
        let mut pushes = std::mem::take(&mut self.pushes);
        let Pushes { pushers, carbon, sockets } = &mut pushes;
        for active in pushers.iter_mut().filter(|p| p.due <= now) {
            active.due = now + Ms::from(active.pusher.freq) * 1000;
            let result = self.push(active, sockets);
            active.report(result);
        }
        if let Some(graphite) = carbon {
            self.feed(graphite, now);
            graphite.sending.retain_mut(|sending| sending.step(&graphite.options, now));
        }
        self.pushes = pushes;
    }

    fn push(&self, active: &mut Active, sockets: &mut BTreeMap<bool, UdpSocket>) -> std::io::Result<()> {
        let address = match &active.pusher.to {
            To::File { path, separator } => {
                let mut text = json(&self.snapshot(true), true);
                text.push_str(separator);
                return std::fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes());
            }
            To::Socket { address, .. } | To::Statsd { address, .. } => *address,
        };
        let Some(rows) = self.metrics() else { return Ok(()) };
        let socket = match sockets.entry(address.is_ipv6()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(datagram_socket(address)?),
        };
        let texts = datagrams(&active.pusher.to, &rows, &|name| active.before.get(name).copied());
        active.before = rows.into_iter().map(|row| (row.name, row.value)).collect();
        let result = texts.iter().try_for_each(|text| socket.send_to(text.as_bytes(), address).map(drop));
        self.reset_pushed();
        result
    }

    /// Starts a push to every carbon server, if it is time.
    fn feed(&self, graphite: &mut Graphite, now: Ms) {
        if graphite.due > now {
            return;
        }
        graphite.due = now + Ms::from(graphite.options.freq.max(1)) * 1000;
        let snapshot = self.snapshot(false);
        let rows: Vec<Row> = self.metrics().unwrap_or_default();
        graphite.before.micros = graphite.since.map_or(0, |since| since.elapsed().as_micros() as u64);
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let text = carbon(&graphite.options, &host, &snapshot, graphite.switches, &graphite.before, super::setup::epoch(), &rows);
        graphite.since = Some(Instant::now());
        graphite.before.running = snapshot.workers.iter().map(|w| w.running_time).collect();
        graphite.before.requests = snapshot.workers.iter().map(|w| w.requests).collect();
        // What is still on its way is old by now.
        graphite.sending = graphite.servers.iter().map(|address| Sending::new(*address, &text, &graphite.options, now)).collect();
        self.reset_pushed();
    }
}

impl Active {
    fn report(&mut self, result: std::io::Result<()>) {
        match result {
            Ok(()) => self.failed = false,
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                say(&format!("stats-push to {}: {error}; it is tried again every {} s", self.pusher.to, self.pusher.freq));
            }
            Err(_) => {}
        }
    }
}

fn datagram_socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Sending {
    fn new(address: SocketAddr, text: &str, options: &Carbon, now: Ms) -> Self {
        let give_up_at = now + Ms::from(options.timeout.max(1)) * 1000;
        Self { address, stream: None, text: text.to_owned(), sent: 0, give_up_at, tries_left: options.max_retry, next_at: now }
    }

    /// Goes on without waiting; whether there is more to do later.
    fn step(&mut self, options: &Carbon, now: Ms) -> bool {
        if self.next_at > now {
            return true;
        }
        let result = self.go_on();
        match result {
            Ok(true) => false,
            Ok(false) if now < self.give_up_at => {
                self.next_at = now + SOON;
                true
            }
            failed => self.fail(failed.err().unwrap_or(Errno::ETIMEDOUT), options, now),
        }
    }

    /// Whether all of it is out.
    fn go_on(&mut self) -> nix::Result<bool> {
        if self.stream.is_none() {
            self.stream = Some(begin(self.address)?);
        }
        let Some(stream) = &self.stream else { return Ok(false) };
        while self.sent < self.text.len() {
            match send(stream.as_raw_fd(), &self.text.as_bytes()[self.sent..], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOTCONN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.stream = None;
        Ok(true)
    }

    fn fail(&mut self, error: Errno, options: &Carbon, now: Ms) -> bool {
        let again = self.tries_left > 0;
        let then = if again { format!("again in {} s", options.retry_delay) } else { "this push is left out".into() };
        say(&format!("carbon = {}: {}; {then}", self.address, error.desc()));
        self.tries_left = self.tries_left.saturating_sub(1);
        (self.stream, self.sent) = (None, 0);
        self.next_at = now + Ms::from(options.retry_delay) * 1000;
        self.give_up_at = self.next_at + Ms::from(options.timeout.max(1)) * 1000;
        again
    }
}

/// A connection that is on its way.
fn begin(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let stream = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(stream.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(stream),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_tried_again_and_then_left() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = Carbon { retry_delay: 7, max_retry: 1, timeout: 1, ..Carbon::default() };
        let mut sending = Sending::new(address, "x 1 2\n", &options, 0);
        // Whether the refusal comes at once or at the next look is the kernel's business.
        let mut now = 0;
        while sending.tries_left > 0 {
            assert!(sending.step(&options, now));
            now = now.max(sending.next_at);
        }
        assert!(sending.next_at >= 7000);
        let mut more = true;
        while more {
            now = now.max(sending.next_at);
            more = sending.step(&options, now);
        }
    }

    #[test]
    fn a_server_that_is_there_gets_the_text_and_the_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let options = Carbon::default();
        let mut sending = Sending::new(listener.local_addr().unwrap(), "x 1 2\n", &options, 0);
        let mut now = 0;
        while sending.step(&options, now) {
            now = sending.next_at;
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut listener.accept().unwrap().0, &mut text).unwrap();
        assert_eq!(text, "x 1 2\n");
    }
}
