//! What the wire costs a request: `cargo bench -p imperator-protocol`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use imperator_protocol::chunked::Decoder;
use imperator_protocol::http::{ConnInfo, MAX_HEAD, Places, parse_head, to_vars};
use imperator_protocol::packet::{Header, MAX_DATASIZE, Packet};
use imperator_protocol::response::ResponseHead;
use imperator_protocol::vars::{Vars, push};
use std::hint::black_box;

const BROWSER: &[u8] = b"GET /articles/2024/?page=2&sort=date HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://www.example.com/articles/\r\n\
    Cookie: csrftoken=0123456789abcdef0123456789abcdef; sessionid=0123456789abcdef0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";

/// `uwsgi_params` of nginx and the headers of a browser, about 1 KB.
fn browser_packet() -> Vec<u8> {
    let mut places = Places::default();
    let head = parse_head(BROWSER, MAX_HEAD, &mut places).expect("sound").expect("whole");
    let mut block = Vec::new();
    to_vars(&head, &CONN, &mut block).expect("sound");
    for (name, value) in
        [("DOCUMENT_ROOT", "/usr/share/nginx/html"), ("REQUEST_SCHEME", "http"), ("REMOTE_PORT", "50000"), ("CONTENT_TYPE", "")]
    {
        push(&mut block, name.as_bytes(), value.as_bytes());
    }
    let header = Header { modifier1: 0, datasize: block.len().try_into().expect("small"), modifier2: 0 };
    [&header.encode()[..], &block].concat()
}

const CONN: ConnInfo<'static> =
    ConnInfo { remote_addr: "127.0.0.1", server_name: "host", server_port: "8080", https: false, with_script_name: true };

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let input = browser_packet();
    group.throughput(Throughput::Bytes(input.len() as u64));
    group.bench_function("packet", |bencher| {
        bencher.iter(|| {
            let packet = Packet::parse(black_box(&input), MAX_DATASIZE).expect("small").expect("whole");
            Vars::parse(packet.payload).expect("sound").payload().len()
        })
    });
    let packet = Packet::parse(&input, MAX_DATASIZE).expect("small").expect("whole");
    let vars = Vars::parse(packet.payload).expect("sound");
    group.bench_function("one variable", |bencher| bencher.iter(|| vars.get(black_box(b"REQUEST_URI"))));
    group.throughput(Throughput::Bytes(BROWSER.len() as u64));
    let mut places = Places::default();
    group.bench_function("head", |bencher| bencher.iter(|| parse_head(black_box(BROWSER), MAX_HEAD, &mut places).is_ok()));
    let mut block = Vec::new();
    group.bench_function("head to variables", |bencher| {
        bencher.iter(|| {
            let mut places = Places::default();
            let head = parse_head(black_box(BROWSER), MAX_HEAD, &mut places).expect("sound").expect("whole");
            block.clear();
            to_vars(&head, &CONN, &mut block).expect("sound");
            block.len()
        })
    });
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    for size in [64, 8192] {
        let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        let input = chunk.repeat(64 * 1024 / size);
        let mut output = vec![0; input.len()];
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("chunks of {size}"), |bencher| {
            bencher.iter(|| Decoder::new().decode(black_box(&input), &mut output).expect("sound").produced)
        });
    }
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let mut head = ResponseHead::new();
    criterion.bench_function("response head", |bencher| {
        bencher.iter(|| {
            head.start(b"HTTP/1.1", black_box(b"200 OK")).expect("sound");
            for (name, value) in
                [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "12345"), ("X-Frame-Options", "DENY"), ("Vary", "Cookie")]
            {
                head.add(name.as_bytes(), value.as_bytes()).expect("sound");
            }
            head.finish().len()
        })
    });
}

criterion_group!(benches, requests, bodies, responses);
criterion_main!(benches);
