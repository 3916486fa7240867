//! Where an instance listens.

use serde::{Deserialize, Serialize};

/// What a socket speaks.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Uwsgi,
    /// One request a connection (`http-socket`).
    Http,
    /// Keep-alive (`http11-socket`).
    Http11,
}

impl Protocol {
    /// Whether a connection may serve more than one request.
    pub fn keeps(self) -> bool {
        self == Self::Http11
    }

    /// As stats print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uwsgi => "uwsgi",
            Self::Http => "http",
            Self::Http11 => "http11",
        }
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Socket {
    /// As configured: `host:port`, `:port`, a path, `@name`, `fd://N`, `=N`, `::` ...
    pub address: String,
    pub protocol: Protocol,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct SocketOptions {
    /// `listen`; `None`: min(somaxconn, 4096).
    pub backlog: Option<i32>,
    /// `chmod-socket`, permission bits.
    pub chmod: Option<u32>,
    /// `chown-socket`, `user[:group]`.
    pub chown: Option<String>,
    pub reuse_port: bool,
    pub freebind: bool,
    pub keepalive: bool,
    pub tcp_nodelay: bool,
    /// TCP_DEFER_ACCEPT; off with `no-defer-accept`.
    pub defer_accept: bool,
    pub send_timeout: u32,
    pub sndbuf: u32,
    pub rcvbuf: u32,
    /// `zerg`: servers to fetch sockets from; `zerg-fallback`; `zerg-server` to hand ours out; `zerg-pool` `PATH:ADDR,...`.
    pub zerg: Vec<String>,
    pub zerg_fallback: bool,
    pub zerg_server: Option<String>,
    pub zerg_pool: Vec<String>,
    /// `umask`.
    pub umask: Option<u32>,
    /// What plain `socket` speaks, which is already applied to [`super::Settings::sockets`], and sockets that are given by others.
    pub protocol: Protocol,
    /// `abstract-socket`: unix sockets have abstract names; already applied to [`super::Settings::sockets`].
    pub abstract_names: bool,
    /// `skip-zero`: do not adopt descriptor 0 when it is a socket.
    pub skip_zero: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: None,
            chmod: None,
            chown: None,
            reuse_port: false,
            freebind: false,
            keepalive: false,
            tcp_nodelay: false,
            defer_accept: true,
            send_timeout: 0,
            sndbuf: 0,
            rcvbuf: 0,
            zerg: vec![],
            zerg_fallback: false,
            zerg_server: None,
            zerg_pool: vec![],
            umask: None,
            protocol: Protocol::Uwsgi,
            abstract_names: false,
            skip_zero: false,
        }
    }
}
