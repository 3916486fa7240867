//! systemd's readiness protocol (`Type=notify`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket that `NOTIFY_SOCKET` names.
pub struct Notify {
    socket: UnixDatagram,
    address: SocketAddr,
    governed: Option<usize>,
}

impl Notify {
    /// `None`: nobody wants to be told.
    pub fn from_environment() -> Option<Self> {
        let name = std::env::var("NOTIFY_SOCKET").ok()?;
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        Some(Self { socket: UnixDatagram::unbound().ok()?, address: address.ok()?, governed: None })
    }

    /// Ready (the first time), and how many vassals there are (when that has changed).
    pub fn governing(&mut self, vassals: usize) {
        if self.governed == Some(vassals) {
            return;
        }
        let ready = if self.governed.is_none() { "READY=1\n" } else { "" };
        self.governed = Some(vassals);
        self.send(&format!("{ready}STATUS=The Emperor is governing {vassals} vassals"));
    }

    pub fn ending(&self) {
        self.send("STOPPING=1\nSTATUS=The Emperor ends");
    }

    fn send(&self, text: &str) {
        let _ = self.socket.set_nonblocking(true);
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.address); // nobody there: nobody to tell
    }
}
