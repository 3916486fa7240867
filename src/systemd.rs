//! What systemd is told: readiness and reloads (`Type=notify-reload`, or plain `notify`), a status line, and signs of life for its watchdog.
//! Instances and emperors speak it alike; nothing of it waits, and nobody there is nobody to tell.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use imperator_sys::process::{monotonic_ms, monotonic_us};

/// Variables that are meant for one process and not for those below it.
pub const VARIABLES: [&str; 6] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How far the service is, as systemd distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// The line to systemd.
#[derive(Debug)]
pub struct Systemd {
    socket: UnixDatagram,
    address: SocketAddr,
    told: Phase,
    status: String,
    watchdog: Option<Watchdog>,
}

/// `WatchdogSec=`: a sign of life at half of its period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watchdog {
    /// Milliseconds between two signs.
    every: u64,
    /// The next one, of CLOCK_MONOTONIC.
    due: u64,
}

impl Systemd {
    /// `var` looks a variable up. `told` is what systemd believes: [`Phase::Reloading`] after a reload's exec. `None`: nobody wants to be told.
    pub fn new<'v>(var: impl Fn(&str) -> Option<&'v str>, told: Phase) -> Option<Self> {
        let name = var("NOTIFY_SOCKET")?;
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        let watchdog = Watchdog::new(var("WATCHDOG_USEC"), var("WATCHDOG_PID"), std::process::id(), monotonic_ms());
        Some(Self { socket, address: address.ok()?, told, status: String::new(), watchdog })
    }

    /// How it is now; only what is new is told.
    pub fn update(&mut self, phase: Phase, status: &str) {
        let mut text = news(self.told, phase, std::process::id());
        self.told = phase;
        if self.status != status {
            status.clone_into(&mut self.status);
            text.push_str(&format!("STATUS={}\n", status.replace('\n', " ")));
        }
        self.send(&text);
    }

    /// A reload begins. To be said each time, and before anything is done about it: systemd compares the time with that of its own order.
    pub fn reloading(&mut self) {
        if self.told != Phase::Stopping {
            self.told = Phase::Reloading;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_us()));
        }
    }

    /// When the next sign of life is due.
    pub fn next_deadline(&self) -> Option<u64> {
        self.watchdog.map(|watchdog| watchdog.due)
    }

    /// Gives a sign of life if one is due. Who calls it is alive.
    pub fn on_deadline(&mut self, now: u64) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.barks(now)) {
            self.send("WATCHDOG=1\n");
        }
    }

    fn send(&self, text: &str) {
        if !text.is_empty() {
            let _ = self.socket.send_to_addr(text.as_bytes(), &self.address);
        }
    }
}

/// What there is to say about a step from `told` to `phase`. Process 1 (of a container, of a namespace) has another number outside.
fn news(told: Phase, phase: Phase, pid: u32) -> String {
    match phase {
        _ if told == phase => String::new(),
        Phase::Ready if pid == 1 => "READY=1\n".into(),
        Phase::Ready => format!("READY=1\nMAINPID={pid}\n"),
        Phase::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_us()),
        Phase::Stopping => "STOPPING=1\n".into(),
        Phase::Starting => String::new(),
    }
}

impl Watchdog {
    /// From systemd's variables; `None` if it wants no signs, or those of another process.
    fn new(period_us: Option<&str>, whose: Option<&str>, pid: u32, now: u64) -> Option<Self> {
        let period: u64 = period_us?.parse().ok().filter(|us| *us > 0)?;
        let ours = whose.is_none_or(|whose| whose.parse() == Ok(pid));
        let every = (period / 2000).max(1);
        ours.then_some(Self { every, due: now + every })
    }

    fn barks(&mut self, now: u64) -> bool {
        let due = self.due <= now;
        if due {
            self.due = now + self.every;
        }
        due
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listener() -> (tempfile::TempDir, UnixDatagram, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (dir, socket, path.to_str().unwrap().to_owned())
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 512];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())).collect()
    }

    #[test]
    fn only_what_is_new_is_told_and_a_reload_each_time() {
        let (_dir, socket, path) = listener();
        let mut systemd = Systemd::new(|name| (name == "NOTIFY_SOCKET").then_some(path.as_str()), Phase::Starting).unwrap();
        systemd.update(Phase::Starting, "loading");
        systemd.update(Phase::Ready, "serves");
        systemd.update(Phase::Ready, "serves");
        assert_eq!(heard(&socket), ["STATUS=loading\n".to_owned(), format!("READY=1\nMAINPID={}\nSTATUS=serves\n", std::process::id())]);
        systemd.reloading();
        systemd.reloading();
        let reloads = heard(&socket);
        assert!(reloads.len() == 2 && reloads.iter().all(|text| text.starts_with("RELOADING=1\nMONOTONIC_USEC=")), "{reloads:?}");
        systemd.update(Phase::Reloading, "serves");
        systemd.update(Phase::Ready, "serves");
        systemd.update(Phase::Stopping, "serves");
        systemd.reloading();
        let rest = heard(&socket);
        assert!(rest.len() == 2 && rest[0].starts_with("READY=1") && rest[1] == "STOPPING=1\n", "{rest:?}");
        assert_eq!(systemd.next_deadline(), None);
    }

    #[test]
    fn process_1_does_not_say_its_number() {
        assert_eq!(news(Phase::Starting, Phase::Ready, 1), "READY=1\n");
        assert_eq!(news(Phase::Reloading, Phase::Ready, 7), "READY=1\nMAINPID=7\n");
    }

    #[test]
    fn the_watchdog_hears_of_us_twice_a_period_and_of_nobody_else() {
        let mut watchdog = Watchdog::new(Some("3000000"), Some("7"), 7, 100).unwrap();
        assert_eq!(watchdog, Watchdog { every: 1500, due: 1600 });
        assert!(!watchdog.barks(1599) && watchdog.barks(1610) && !watchdog.barks(3109) && watchdog.barks(3110));
        assert!(Watchdog::new(Some("3000000"), None, 7, 0).is_some());
        for (period, whose) in [(None, None), (Some("0"), None), (Some("x"), None), (Some("1"), Some("8"))] {
            assert_eq!(Watchdog::new(period, whose, 7, 0), None);
        }
    }

    #[test]
    fn nobody_to_tell() {
        assert!(Systemd::new(|_| None, Phase::Starting).is_none());
        let mut gone = Systemd::new(|name| (name == "NOTIFY_SOCKET").then_some("/no/such/socket"), Phase::Starting).unwrap();
        gone.update(Phase::Ready, "x");
    }
}
