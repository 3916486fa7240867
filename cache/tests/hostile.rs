//! Whatever bytes a process of less trust writes into the segment: no operation panics, reads outside, or goes on for ever.
//!
//! Every run takes the seeds of `__fuzz__/segment/corpus` and random bytes; `BOLERO_RANDOM_ITERATIONS=1000000` makes it long.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use imperator_cache::{Cache, Definition, Math};

const NOW: u64 = 1_000_000;
const LINES: [&str; 4] = [
    "name=h,items=20,blocksize=40,keysize=150",
    "name=h,items=40,blocksize=40,purge_lru=1",
    "name=h,items=40,blocksize=16,blocks=100,bitmap=1,purge_lru=1,keysize=120",
    "name=h,items=10,blocksize=16,blocks=30,bitmap=1,sweep_on_full=1,clear_on_full=1",
];

fn cache(line: &str) -> Cache {
    let cache = Cache::create(&Definition::parse(line).expect(line)).expect(line).with_patience(Duration::ZERO);
    for i in 0..15u8 {
        let _ = cache.set(&[b'k', i], &[i; 16], if i % 3 == 0 { NOW + u64::from(i) } else { 0 }, NOW);
    }
    let _ = cache.set(&[7; 110], b"long", 0, NOW);
    let _ = cache.math(b"number", Math::Add, 1, 0, NOW);
    cache
}

/// Everything that a process can do.
fn exercise(cache: &Cache) {
    let mut value = Vec::new();
    let largest = cache.definition().largest_value() as usize;
    for i in 0..20u8 {
        cache.get(&[b'k', i], NOW, &mut value);
        assert!(value.len() <= largest);
        let _ = cache.update(&[b'k', i], &[i; 11], NOW + 1, NOW);
        let _ = cache.set(&[b'n', i], &vec![i; 1 + largest / 3], 0, NOW + 1);
        let _ = cache.delete(&[b'k', i ^ 1], NOW);
    }
    cache.get(&[7; 110], NOW, &mut value);
    cache.exists(b"number", NOW);
    cache.number(b"number", NOW);
    let _ = cache.math(b"number", Math::Multiply, 3, 0, NOW);
    let _ = cache.keys(NOW);
    let _ = cache.for_each(NOW, |item| assert!(item.value.len() <= largest));
    cache.sweep(NOW + 2);
    cache.stats();
    let _ = cache.clear(NOW);
    let _ = cache.set(b"k", b"v", 0, NOW);
}

fn memory(cache: &Cache) -> File {
    File::from(cache.as_fd().try_clone_to_owned().expect("dup"))
}

/// The first byte chooses the cache. Then: a place (3 bytes, past the header, which is read once), a kind, eight bytes, and so on.
fn scribble(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let cache = cache(LINES[*choice as usize % LINES.len()]);
    let file = memory(&cache);
    let bytes = cache.sizes().total;
    for part in rest.chunks_exact(12) {
        let place = u64::from(u32::from_le_bytes([part[0], part[1], part[2], 0]));
        let at = 4096 + place % (bytes - 4096 - 8);
        let (at, count) = match part[3] % 4 {
            0 => (at, 1),
            1 => (at / 4 * 4, 4),
            2 => (at / 8 * 8, 8),
            _ => (at / 8 * 8, 2),
        };
        file.write_all_at(&part[4..4 + count], at).expect("write");
    }
    let started = Instant::now();
    exercise(&cache);
    exercise(&cache);
    assert!(started.elapsed() < Duration::from_secs(20), "the operations took {:?}", started.elapsed());
}

#[test]
fn segment() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__/segment/corpus");
    let mut seeds: Vec<_> = std::fs::read_dir(corpus).expect("a corpus").map(|entry| entry.expect("readable").path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 5);
    seeds.iter().for_each(|seed| scribble(&std::fs::read(seed).expect("readable")));
    bolero::check!(name = "segment").with_iterations(1500).with_max_len(1200).for_each(scribble);
}

/// Each cell of the parts before the data takes values that mean trouble, one at a time.
#[test]
fn every_cell_in_turn() {
    for line in LINES {
        let cells = (cache(line).sizes().total - 4096).min(80_000) / 8;
        for cell in (0..cells).step_by(7) {
            let cache = cache(line);
            let word = [u64::MAX, 0x0000_0001_0000_0001, 1 << 31, 20][(cell / 7 % 4) as usize];
            memory(&cache).write_all_at(&word.to_le_bytes(), 4096 + cell * 8).expect("write");
            exercise(&cache);
        }
    }
}

/// All of it filled with one word: rings, locks that are taken for ever, sequences that stay odd.
#[test]
fn the_whole_segment_in_one_word() {
    for line in LINES {
        for word in [0u64, 1, 2, 3, 5, 6, 0x0000_0001_0000_0001, 0x0000_0005_0000_0005, 0x4000_0000_4000_0000, u64::MAX, 1 << 63] {
            let cache = cache(line);
            let bytes = word.to_le_bytes().repeat((cache.sizes().total as usize - 4096) / 8);
            memory(&cache).write_all_at(&bytes, 4096).expect("write");
            exercise(&cache);
        }
    }
}

#[test]
fn somebody_scribbles_all_the_time() {
    for line in LINES {
        let cache = cache(line);
        let (file, stop) = (memory(&cache), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seed = 88_172_645_463_325_252_u64;
                while !stop.load(Relaxed) {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = 4096 + (seed >> 16) % ((cache.sizes().total - 4096) / 8 - 1) * 8;
                    file.write_all_at(&(seed >> 40 & 0xff).to_le_bytes()[..if seed >> 60 == 0 { 8 } else { 2 }], at).expect("write");
                }
            });
            (0..60).for_each(|_| exercise(&cache));
            stop.store(true, Relaxed);
        });
    }
}
