//! `imperator-instructions FUNCTION TIMES`: runs one hot function so often, for `check.py`, which counts instructions under
//! callgrind. Without arguments: the names of the functions.

use std::hint::black_box;
use std::io::Write as _;
use std::process::ExitCode;

use imperator_protocol::http::{ConnInfo, MAX_HEAD, Places, parse_head, to_vars};
use imperator_protocol::packet::{Header, MAX_DATASIZE, Packet};
use imperator_protocol::response::ResponseHead;
use imperator_protocol::vars::{Vars, push};
use imperator_worker::measured::{Counting, Lines, Requests};
use imperator_worker::settings::Protocol;

const HEAD: &[u8] = b"GET /articles/2024/?page=2&sort=date HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.com/articles/\r\n\
    Cookie: csrftoken=0123456789abcdef0123456789abcdef; sessionid=0123456789abcdef0123456789abcdef\r\n\r\n";

const CONNECTION: ConnInfo<'static> =
    ConnInfo { remote_addr: "127.0.0.1", server_name: "host", server_port: "8080", https: false, with_script_name: true };

/// Makes what a function needs once, and gives back the function; its number keeps the work from being optimised away.
type Prepare = fn() -> Box<dyn FnMut() -> usize>;

const FUNCTIONS: &[(&str, Prepare)] = &[
    ("packet-and-variables", || {
        let packet = packet();
        Box::new(move || parsed(&packet).map_or(0, |vars| vars.iter().map(|(name, value)| name.len() + value.len()).sum()))
    }),
    ("three-lookups", || {
        let packet = packet();
        Box::new(move || {
            let Some(vars) = parsed(&packet) else { return 0 };
            [&b"REQUEST_METHOD"[..], b"CONTENT_LENGTH", b"HTTP_HOST"].iter().filter_map(|name| vars.get(name)).map(<[u8]>::len).sum()
        })
    }),
    ("http-head", || {
        let mut places = Places::default();
        Box::new(move || usize::from(matches!(parse_head(black_box(HEAD), MAX_HEAD, &mut places), Ok(Some(_)))))
    }),
    ("http-head-to-variables", || {
        let (mut block, mut places) = (vec![], Places::default());
        Box::new(move || {
            block.clear();
            variables(&mut block, &mut places);
            block.len()
        })
    }),
    ("response-head", || {
        let mut head = ResponseHead::new();
        Box::new(move || {
            let fine = head.start(b"HTTP/1.1", black_box(b"200 OK")).is_ok()
                && head.add(black_box(b"Content-Type"), b"text/html; charset=utf-8").is_ok()
                && head.add(black_box(b"Content-Length"), b"12345").is_ok()
                && head.add(black_box(b"X-Frame-Options"), b"DENY").is_ok();
            if fine { head.finish().len() } else { 0 }
        })
    }),
    ("log-line", || log_line(None)),
    ("log-line-combined", || {
        log_line(Some("%(addr) - %(user) [%(ltime)] \"%(method) %(uri) %(proto)\" %(status) %(size) \"%(referer)\" \"%(uagent)\""))
    }),
    ("request-uwsgi", || request(Protocol::Uwsgi, packet())),
    ("request-http-kept", || request(Protocol::Http11, HEAD.to_vec())),
    ("scoreboard", || {
        let (block, counting) = (block(), Counting::new());
        Box::new(move || counting.as_ref().map_or(0, |c| c.request(black_box(&block)) as usize))
    }),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = &args[..] else {
        for (name, _) in FUNCTIONS {
            let _ = writeln!(std::io::stdout(), "{name}");
        }
        return ExitCode::SUCCESS;
    };
    let (Some((_, prepare)), Ok(times)) = (FUNCTIONS.iter().find(|(other, _)| other == name), times.parse::<u32>()) else {
        eprintln!("usage: imperator-instructions [FUNCTION TIMES]");
        return ExitCode::from(2);
    };
    let mut function = prepare();
    // A function that fails is not what is to be counted.
    if (0..times).all(|_| black_box(function()) > 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn log_line(format: Option<&str>) -> Box<dyn FnMut() -> usize> {
    let (block, mut lines) = (block(), Lines::new(format));
    Box::new(move || lines.line(black_box(&block)).len())
}

/// From the accepted connection to the last byte of the answer, all but the language (and the kernel).
fn request(protocol: Protocol, bytes: Vec<u8>) -> Box<dyn FnMut() -> usize> {
    let mut requests = Requests::new(protocol, None);
    Box::new(move || requests.as_mut().map_or(0, |r| r.serve(black_box(&bytes)).map_or(0, <[u8]>::len)))
}

fn parsed(packet: &[u8]) -> Option<Vars<'_>> {
    let packet = Packet::parse(black_box(packet), MAX_DATASIZE).ok()??;
    Vars::parse(packet.payload).ok()
}

fn variables(block: &mut Vec<u8>, places: &mut Places) {
    if let Ok(Some(head)) = parse_head(black_box(HEAD), MAX_HEAD, places) {
        let _ = to_vars(&head, &CONNECTION, block);
    }
}

/// The request as nginx's `uwsgi_params` and headers would send it.
fn block() -> Vec<u8> {
    let mut block = vec![];
    variables(&mut block, &mut Places::default());
    for (name, value) in
        [("DOCUMENT_ROOT", "/usr/share/nginx/html"), ("REQUEST_SCHEME", "http"), ("REMOTE_PORT", "50000"), ("CONTENT_TYPE", "")]
    {
        push(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

fn packet() -> Vec<u8> {
    let block = block();
    let header = Header { modifier1: 0, datasize: block.len() as u16, modifier2: 0 };
    [&header.encode()[..], &block].concat()
}
