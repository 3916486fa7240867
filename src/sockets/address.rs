//! Socket addresses as they stand in configurations.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// The longest path of a unix socket, uWSGI's limit.
const MAX_UNIX_PATH: usize = 102;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Port 0: any that is free.
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// Without the leading `@`.
    Abstract(Vec<u8>),
    /// `fd://N`, and `::` for 0: a socket of the parent's.
    Inherited(i32),
    /// `=N`: the N-th `shared-socket`, from 0.
    Shared(usize),
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("it is empty; write HOST:PORT, :PORT or a path")]
    Empty,
    #[error("{0:?} is no number of a descriptor")]
    Descriptor(String),
    #[error("{0:?} is no port (0 to 65535)")]
    Port(String),
    #[error("the path has {0} bytes, and the kernel takes {MAX_UNIX_PATH} at most: use a shorter one")]
    TooLong(usize),
    #[error("cannot resolve {0:?}: {1}")]
    Unresolved(String, String),
    #[error("no network interface has an address that matches {0:?}")]
    NoInterface(String),
}

impl Address {
    /// Reads one address; names are resolved and patterns (`127.0.0.*:80`) matched at once.
    ///
    /// # Errors
    /// What is wrong with it, for a message that names it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text == "::" {
            return Ok(Self::Inherited(0));
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return number.parse().ok().filter(|n| *n >= 0).map(Self::Inherited).ok_or_else(|| AddressError::Descriptor(number.into()));
        }
        if let Some(number) = text.strip_prefix('=') {
            return number.parse().map(Self::Shared).map_err(|_| AddressError::Descriptor(number.into()));
        }
        // nginx's way to write it, which uWSGI takes for a host of that name; a warning tells.
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.bytes().all(|b| b.is_ascii_digit())) {
            return short(path.len()).map(|()| Self::Unix(path.into()));
        }
        match text.as_bytes() {
            [] => Err(AddressError::Empty),
            [b'@', name @ ..] => short(name.len()).map(|()| Self::Abstract(name.to_vec())),
            _ => match text.rsplit_once(':') {
                None => short(text.len()).map(|()| Self::Unix(text.into())),
                Some((host, port)) => Ok(Self::Tcp(resolve(host, number(port)?)?)),
            },
        }
    }
}

fn short(length: usize) -> Result<(), AddressError> {
    if length > MAX_UNIX_PATH { Err(AddressError::TooLong(length)) } else { Ok(()) }
}

/// A port as uWSGI reads it: digits, then a blank and anything (`3031 # front end`); nothing at all is 0.
fn number(port: &str) -> Result<u16, AddressError> {
    let word = port.split([' ', '\t', ';', '#']).next().unwrap_or("");
    if word.is_empty() { Ok(0) } else { word.parse().map_err(|_| AddressError::Port(port.into())) }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, AddressError> {
    if host.is_empty() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if let Some(prefix) = host.split_once('*').map(|(prefix, _)| prefix) {
        return interface(prefix).map(|ip| (ip, port).into()).ok_or_else(|| AddressError::NoInterface(host.into()));
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let unresolved = |why: String| AddressError::Unresolved(host.into(), why);
    let mut found = (bare, port).to_socket_addrs().map_err(|e| unresolved(e.to_string()))?;
    found.next().ok_or_else(|| unresolved("no address".into()))
}

/// The first address of this machine's that begins so.
fn interface(prefix: &str) -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    addresses.filter_map(|i| i.address?.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()))).find(|ip| ip.to_string().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> String {
        match Address::parse(text) {
            Ok(Address::Tcp(address)) => address.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn tcp_in_all_its_forms() {
        assert_eq!(tcp("127.0.0.1:3031"), "127.0.0.1:3031");
        assert_eq!(tcp(":3031"), "0.0.0.0:3031");
        assert_eq!(tcp("127.0.0.1:"), "127.0.0.1:0");
        assert_eq!(tcp("[::1]:80"), "[::1]:80");
        assert_eq!(tcp("[::]:80"), "[::]:80");
        assert_eq!(tcp("127.0.0.*:80"), "127.0.0.1:80");
        assert_eq!(tcp("127.0.0.1:3031 # front end"), "127.0.0.1:3031");
    }

    #[test]
    fn what_is_not_tcp() {
        assert_eq!(Address::parse("/run/a.sock"), Ok(Address::Unix("/run/a.sock".into())));
        assert_eq!(Address::parse("3031"), Ok(Address::Unix("3031".into())));
        assert_eq!(Address::parse("unix:x.sock"), Ok(Address::Unix("x.sock".into())));
        assert_eq!(Address::parse("@name"), Ok(Address::Abstract(b"name".to_vec())));
        assert_eq!(Address::parse("fd://7"), Ok(Address::Inherited(7)));
        assert_eq!(Address::parse("::"), Ok(Address::Inherited(0)));
        assert_eq!(Address::parse("=1"), Ok(Address::Shared(1)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Address::parse(""), Err(AddressError::Empty));
        assert_eq!(Address::parse(":70000"), Err(AddressError::Port("70000".into())));
        assert_eq!(Address::parse("fd://x"), Err(AddressError::Descriptor("x".into())));
        assert_eq!(Address::parse(&"x".repeat(103)), Err(AddressError::TooLong(103)));
        assert!(Address::parse(&"x".repeat(102)).is_ok());
        assert!(matches!(Address::parse("256.0.0.*:1"), Err(AddressError::NoInterface(_))));
    }
}
