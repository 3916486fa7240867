//! The PROXY protocol, version 1: the line a load balancer puts before a connection to say whose it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line, its CR LF included (from the protocol's description).
pub const MAX_LINE: usize = 107;

/// Who the connection is from and whom it was to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// A PROXY line at the start of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// `None`: the balancer does not know (`PROXY UNKNOWN`), so the addresses of the connection itself hold.
    pub proxied: Option<Proxied>,
    /// Bytes of the line: where the request starts.
    pub length: usize,
}

/// What is wrong with a PROXY line. Close the connection without an answer: the peer is not the one it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    #[error("the connection does not start with a PROXY line (enable-proxy-protocol is on)")]
    NotProxied,
    #[error("a PROXY line of more than {MAX_LINE} bytes")]
    TooLong,
    #[error("a PROXY line that does not end in CR LF")]
    LineEnd,
    #[error("a PROXY line for a protocol other than TCP4, TCP6 and UNKNOWN")]
    Family,
    #[error("a PROXY line with an address that is none of its protocol")]
    Address,
    #[error("a PROXY line with a port that is no number from 0 to 65535")]
    Port,
    #[error("a PROXY line that does not have two addresses and two ports")]
    Fields,
}

/// Reads the line at the start of `input`; `None` if it is not all there yet.
pub fn parse(input: &[u8]) -> Result<Option<Line>, ProxyError> {
    const START: &[u8] = b"PROXY ";
    let start = &input[..input.len().min(START.len())];
    if start != &START[..start.len()] {
        return Err(ProxyError::NotProxied);
    }
    let window = &input[..input.len().min(MAX_LINE)];
    let Some(end) = window.iter().position(|&byte| byte == b'\r' || byte == b'\n') else {
        return if input.len() < MAX_LINE { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    match (window[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if end + 1 == MAX_LINE => return Err(ProxyError::TooLong),
        (b'\r', None) => return Ok(None),
        _ => return Err(ProxyError::LineEnd),
    }
    let proxied = parse_rest(&window[START.len()..end])?;
    Ok(Some(Line { proxied, length: end + 2 }))
}

fn parse_rest(rest: &[u8]) -> Result<Option<Proxied>, ProxyError> {
    let mut fields = rest.split(|&byte| byte == b' ');
    let address: fn(&[u8]) -> Option<IpAddr> = match fields.next() {
        // Whatever follows is to be ignored.
        Some(b"UNKNOWN") => return Ok(None),
        Some(b"TCP4") => |field| text(field)?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some(b"TCP6") => |field| text(field)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(ProxyError::Family),
    };
    let [source, destination, source_port, destination_port] = four(fields).ok_or(ProxyError::Fields)?;
    let [source, destination] = [address(source).ok_or(ProxyError::Address)?, address(destination).ok_or(ProxyError::Address)?];
    let [source_port, destination_port] = [port(source_port).ok_or(ProxyError::Port)?, port(destination_port).ok_or(ProxyError::Port)?];
    Ok(Some(Proxied { source: (source, source_port).into(), destination: (destination, destination_port).into() }))
}

fn four<'i>(mut fields: impl Iterator<Item = &'i [u8]>) -> Option<[&'i [u8]; 4]> {
    let four = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    fields.next().is_none().then_some(four)
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// Digits only, without leading zeros.
fn port(field: &[u8]) -> Option<u16> {
    let plain = field == b"0" || !field.starts_with(b"0");
    crate::bytes::decimal(field).filter(|_| plain).and_then(|number| number.try_into().ok())
}
