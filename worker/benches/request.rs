//! What a request costs beside parsing and the language: `cargo bench -p imperator-worker`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use imperator_protocol::vars::{Vars, push};
use imperator_worker::measured::{Counting, Lines};

/// Variables of a browser's request behind nginx.
fn block() -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in [
        ("QUERY_STRING", "page=2&sort=date"),
        ("REQUEST_METHOD", "GET"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("REQUEST_URI", "/articles/2024/?page=2&sort=date"),
        ("PATH_INFO", "/articles/2024/"),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REMOTE_PORT", "40000"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "www.example.com"),
        ("HTTP_HOST", "www.example.com"),
        ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br"),
    ] {
        push(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

fn lines(criterion: &mut Criterion) {
    let block = block();
    let mut group = criterion.benchmark_group("log line");
    let mut default = Lines::new(None);
    group.bench_function("default", |bencher| bencher.iter(|| default.line(black_box(&block)).len()));
    let mut combined =
        Lines::new(Some("%(addr) - %(user) [%(ltime)] \"%(method) %(uri) %(proto)\" %(status) %(size) \"%(referer)\" \"%(uagent)\""));
    group.bench_function("combined", |bencher| bencher.iter(|| combined.line(black_box(&block)).len()));
    group.finish();
}

fn lookups(criterion: &mut Criterion) {
    let block = block();
    let vars = Vars::parse(&block).expect("sound");
    criterion.bench_function("lookup of three variables", |bencher| {
        bencher.iter(|| [&b"REQUEST_METHOD"[..], b"CONTENT_LENGTH", b"HTTP_HOST"].map(|name| vars.get(black_box(name)).map(<[u8]>::len)))
    });
    let counting = Counting::new().expect("memfd");
    criterion.bench_function("scoreboard", |bencher| bencher.iter(|| counting.request(black_box(&block))));
}

criterion_group!(benches, lines, lookups);
criterion_main!(benches);
