//! The PROXY line.

use imperator_protocol::proxy::{Line, MAX_LINE, Proxied, ProxyError, parse};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

#[test]
fn sound_lines() {
    let line = |input: &str| parse(input.as_bytes()).expect("sound").expect("whole");
    let proxied = |source: &str, destination: &str| {
        Some(Proxied { source: source.parse().expect("address"), destination: destination.parse().expect("address") })
    };
    let four = "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n";
    let six = "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
    assert_eq!(line(&format!("{four}GET /")), Line { proxied: proxied("192.0.2.1:56324", "10.0.0.1:443"), length: four.len() });
    assert_eq!(line(six), Line { proxied: proxied("[2001:db8::1]:0", "[::1]:65535"), length: six.len() });
    assert_eq!(line("PROXY UNKNOWN\r\n"), Line { proxied: None, length: 15 });
    assert_eq!(line("PROXY UNKNOWN what ever\0 it is\r\n").proxied, None);
}

#[test]
fn refused_lines() {
    let refused = |error: ProxyError, inputs: &[&str]| {
        for input in inputs {
            assert_eq!(parse(input.as_bytes()), Err(error), "{input:?}");
        }
    };
    refused(ProxyError::NotProxied, &["G", "GET / HTTP/1.1\r\n", "PROXX", "proxy TCP4", "PROXY\r\n", "\r\n", "PROXY\tTCP4"]);
    refused(ProxyError::LineEnd, &["PROXY UNKNOWN\n", "PROXY UNKNOWN\rx", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"]);
    refused(
        ProxyError::Family,
        &["PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", "PROXY \r\n", "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "PROXY UNKNOWNX\r\n"],
    );
    refused(
        ProxyError::Fields,
        &[
            "PROXY TCP4\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        ],
    );
    refused(
        ProxyError::Address,
        &["PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", "PROXY TCP4 x y 1 2\r\n"],
    );
    refused(
        ProxyError::Port,
        &[
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        ],
    );
}

#[test]
fn a_line_has_an_end() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 16));
    assert_eq!(parse(longest.as_bytes()), Ok(Some(Line { proxied: None, length: MAX_LINE })));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 15));
    assert_eq!(parse(longer.as_bytes()), Err(ProxyError::TooLong));
    assert_eq!(parse(&longer.as_bytes()[..MAX_LINE]), Err(ProxyError::TooLong));
    assert_eq!(parse(&longer.as_bytes()[..MAX_LINE - 1]), Ok(None));
}

proptest! {
    #[test]
    fn what_a_balancer_writes_is_read(four: bool, a: u128, b: u128, source_port: u16, port: u16, rest in "[ -~]{0,20}") {
        let address = |bits: u128, port| -> SocketAddr {
            if four { (Ipv4Addr::from_bits(bits as u32), port).into() } else { (Ipv6Addr::from_bits(bits), port).into() }
        };
        let (source, destination) = (address(a, source_port), address(b, port));
        let line = format!("PROXY TCP{} {} {} {source_port} {port}\r\n", if four { 4 } else { 6 }, source.ip(), destination.ip());
        let input = line.clone() + &rest;
        prop_assert_eq!(parse(input.as_bytes()), Ok(Some(Line { proxied: Some(Proxied { source, destination }), length: line.len() })));
        for end in 0..line.len() {
            prop_assert_eq!(parse(&line.as_bytes()[..end]), Ok(None));
        }
    }
}
