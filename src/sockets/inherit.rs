//! Sockets of whoever started us: systemd (LISTEN_FDS) and inetd (a socket as descriptor 0).

use std::fmt;

use imperator_worker::settings::Protocol;
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// systemd's first descriptor.
const LISTEN_FDS_START: i32 = 3;

/// A descriptor that was there when the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    pub fd: i32,
    /// What it speaks, if its name (`FileDescriptorName=`) says so; else it is `socket`'s.
    pub protocol: Option<Protocol>,
}

impl Inherited {
    /// What systemd passed to this very process (`LISTEN_PID`).
    pub fn from_systemd(env: &[(String, String)], pid: u32) -> Vec<Self> {
        let number = |name: &str| env.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse::<u32>().ok());
        let count = if number("LISTEN_PID") == Some(pid) { number("LISTEN_FDS").unwrap_or(0) } else { 0 };
        let names = env.iter().find(|(key, _)| key == "LISTEN_FDNAMES").map_or("", |(_, names)| names.as_str());
        let protocols = names.split(':').map(protocol).chain(std::iter::repeat(None));
        (0..count.min(1024) as i32).zip(protocols).map(|(i, protocol)| Self { fd: LISTEN_FDS_START + i, protocol }).collect()
    }

    /// Descriptor 0, if it is a socket that listens: how inetd and an emperor's on-demand vassals get theirs.
    pub fn from_standard_input() -> Option<Self> {
        let stdin = imperator_sys::process::standard_input();
        let listens = getsockopt(&stdin, sockopt::SockType) == Ok(SockType::Stream) && getsockopt(&stdin, sockopt::AcceptConn) == Ok(true);
        listens.then_some(Self { fd: 0, protocol: None })
    }
}

/// A descriptor that is named as the option that would have bound it.
fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "uwsgi" | "uwsgi-socket" => Some(Protocol::Uwsgi),
        "http" | "http-socket" => Some(Protocol::Http),
        "http11" | "http11-socket" => Some(Protocol::Http11),
        _ => None,
    }
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd://{}", self.fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_meant_for_this_process() {
        let env = |pid: &str| vec![("LISTEN_PID".to_owned(), pid.to_owned()), ("LISTEN_FDS".to_owned(), "2".to_owned())];
        let plain = |fd| Inherited { fd, protocol: None };
        assert_eq!(Inherited::from_systemd(&env("7"), 7), [plain(3), plain(4)]);
        assert_eq!(Inherited::from_systemd(&env("8"), 7), []);
        assert_eq!(Inherited::from_systemd(&[], 7), []);
        let mut named = env("7");
        named.push(("LISTEN_FDNAMES".into(), "app.socket:http11".into()));
        assert_eq!(Inherited::from_systemd(&named, 7), [plain(3), Inherited { fd: 4, protocol: Some(Protocol::Http11) }]);
    }
}
