//! Operations a second: one process; a reader beside a writer; four processes on keys of their own. Other processes are this binary again.
//!
//! `cargo bench -p imperator-cache`. For comparison, uWSGI 2.0.31 from Python: 7.5 to 8 million get a second alone, 0.07 to 0.9 million with a writer beside.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use imperator_cache::{Cache, Definition, Math};
use imperator_sys::segment::Segment;

const LINE: &str = "name=bench,items=10000,blocksize=1024";
const LRU: &str = "name=bench,items=10000,blocksize=1024,purge_lru=1";
const VALUE: [u8; 100] = [7; 100];

fn cache(line: &str) -> Cache {
    let cache = Cache::create(&Definition::parse(line).expect("a definition")).expect("memory");
    for i in 0..1000 {
        cache.set(key(i).as_bytes(), &VALUE, 0, 1).expect("room");
    }
    cache.math(b"number", Math::Add, 1, 0, 1).expect("room");
    cache
}

fn key(number: u64) -> String {
    format!("some:key:{number}")
}

fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("alone");
    group.throughput(Throughput::Elements(1));
    for (name, line) in [("", LINE), (" lru", LRU)] {
        let cache = cache(line);
        let mut value = Vec::new();
        let keys: Vec<String> = (0..1000).map(key).collect();
        let mut keys = keys.iter().cycle();
        let mut next = || keys.next().map_or(&b""[..], |key| key.as_bytes());
        group.bench_function(format!("get{name}"), |b| b.iter(|| black_box(cache.get(next(), 1, &mut value))));
        group.bench_function(format!("get, absent{name}"), |b| b.iter(|| black_box(cache.get(b"nothing", 1, &mut value))));
        group.bench_function(format!("update{name}"), |b| b.iter(|| black_box(cache.update(next(), &VALUE, 0, 1))));
        group.bench_function(format!("set and delete{name}"), |b| {
            b.iter(|| black_box((cache.set(b"k", &VALUE, 0, 1), cache.delete(b"k", 1))))
        });
        group.bench_function(format!("inc{name}"), |b| b.iter(|| black_box(cache.math(b"number", Math::Add, 1, 0, 1))));
    }
    let evicting = cache("name=bench,items=1000,blocksize=1024,purge_lru=1");
    let mut number = 0;
    group.bench_function("set that evicts", |b| {
        b.iter(|| {
            number += 1;
            black_box(evicting.set(key(number).as_bytes(), &VALUE, 0, 1))
        });
    });
    group.finish();
}

/// What another process does until it is told to stop.
fn work(kind: &str, cache: &Cache, board: &Segment, slot: usize) {
    let cells = board.u64s(0, 8);
    let mine: Vec<String> = (0..100).map(|i| key(if kind == "mixed" { slot as u64 * 100 + i } else { i })).collect();
    let (mut value, mut done) = (Vec::new(), 0);
    while cells[0].load(Relaxed) == 0 {
        for key in &mine {
            match kind {
                "read" => drop(black_box(cache.get(key.as_bytes(), 1, &mut value))),
                "write" => drop(black_box(cache.update(key.as_bytes(), &VALUE, 0, 1))),
                _ if done % 4 == 0 => drop(black_box(cache.update(key.as_bytes(), &VALUE, 0, 1))),
                _ => drop(black_box(cache.get(key.as_bytes(), 1, &mut value))),
            }
            done += 1;
        }
    }
    cells[slot].store(done, Relaxed);
}

/// Runs processes of these kinds for a second; million operations a second of each.
fn together(kinds: &[&str], line: &str) -> Vec<f64> {
    let cache = cache(line);
    let board = Segment::memfd("board", 4096).expect("memory");
    let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
    let start = |(slot, kind): (usize, &&str)| -> Child {
        let work = format!("{kind}|{}|{}|{}|{line}", slot + 1, path(cache.as_fd().as_raw_fd()), path(board.as_fd().as_raw_fd()));
        Command::new(std::env::current_exe().expect("this binary")).env("CACHE_BENCH_CHILD", work).spawn().expect("a child")
    };
    let children: Vec<Child> = kinds.iter().enumerate().map(start).collect();
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    board.u64s(0, 1)[0].store(1, Relaxed);
    let seconds = started.elapsed().as_secs_f64() + 0.1;
    children.into_iter().for_each(|mut child| drop(child.wait()));
    (1..=kinds.len()).map(|slot| board.u64s(0, 8)[slot].load(Relaxed) as f64 / seconds / 1e6).collect()
}

fn report() {
    for (name, kinds) in [
        ("one reader", &["read"][..]),
        ("one writer", &["write"]),
        ("reader and writer, same keys", &["read", "write"]),
        ("two readers, same keys", &["read", "read"]),
        ("two writers, same keys", &["write", "write"]),
        ("one on its own keys, 3 reads to a write", &["mixed"]),
        ("two on their own keys", &["mixed", "mixed"]),
        ("four on their own keys", &["mixed", "mixed", "mixed", "mixed"]),
    ] {
        for (lru, line) in [("", LINE), (", lru", LRU)] {
            let figures = together(kinds, line);
            let each: Vec<String> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
            let _ = writeln!(std::io::stdout(), "{name}{lru}: {:.2} million/s ({})", figures.iter().sum::<f64>(), each.join(" + "));
        }
    }
}

fn child(work_order: &str) {
    let mut parts = work_order.splitn(5, '|');
    let mut next = || parts.next().expect("a part");
    let (kind, slot, cache, board, line) = (next(), next(), next(), next(), next());
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path).expect("the parent's descriptor").into();
    let cache = Cache::open(open(cache), &Definition::parse(line).expect("a definition")).expect("the same cache");
    work(kind, &cache, &Segment::map(open(board), 4096).expect("the board"), slot.parse().expect("a number"));
}

fn main() {
    if let Ok(order) = std::env::var("CACHE_BENCH_CHILD") {
        return child(&order);
    }
    let mut criterion =
        Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).configure_from_args();
    alone(&mut criterion);
    criterion.final_summary();
    if !std::env::args().any(|argument| argument == "--test") {
        report();
    }
}
