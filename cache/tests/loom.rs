//! All interleavings and all reorderings that the memory model allows, of the crate's own code on loom's atomics (at most [`PREEMPTIONS`] forced switches).
//!
//! `cargo test -p imperator-cache --features loom --test loom --release`; `make loom`.

use imperator_cache::{Cache, Definition};
use loom::sync::Arc;
use loom::thread;

const NOW: u64 = 1000;
const OLD: &[u8] = b"oldoldoldold";
const NEW: &[u8] = b"newnewnewnew!";
const PREEMPTIONS: usize = 2;

fn model(line: &'static str, test: impl Fn(Arc<Cache>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 100_000;
    builder.check(move || {
        let cache = Cache::create(&Definition::parse(line).expect("valid")).expect("memory");
        test(Arc::new(cache));
    });
}

fn get(cache: &Cache, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    cache.get(key, NOW, &mut value).map(|_| value)
}

fn beside(cache: &Arc<Cache>, work: impl FnOnce(&Cache) + 'static) -> thread::JoinHandle<()> {
    let cache = cache.clone();
    thread::spawn(move || work(&cache))
}

/// Two updates reuse the slot that the reader may be at.
#[test]
fn a_reader_beside_updates_finds_the_old_value_or_a_new_one_whole() {
    model("name=l,items=1,blocksize=16,keysize=8", |cache| {
        cache.set(b"k", OLD, 0, NOW).expect("room");
        let writer = beside(&cache, |cache| {
            cache.update(b"k", NEW, 0, NOW).expect("room");
            cache.update(b"k", OLD, 0, NOW).expect("room");
        });
        let found = get(&cache, b"k").expect("it is there all the time");
        assert!(found == OLD || found == NEW, "{found:?}");
        writer.join().expect("writer");
        assert_eq!(get(&cache, b"k").as_deref(), Some(OLD));
    });
}

/// The slot of the deleted item comes back with another key.
#[test]
fn a_reader_never_finds_a_foreign_value() {
    model("name=l,items=1,blocksize=16,keysize=8", |cache| {
        cache.set(b"a", OLD, 0, NOW).expect("room");
        let writer = beside(&cache, |cache| {
            cache.delete(b"a", NOW).expect("there");
            cache.set(b"b", NEW, 0, NOW).expect("room");
        });
        assert!(get(&cache, b"a").is_none_or(|found| found == OLD));
        assert!(get(&cache, b"b").is_none_or(|found| found == NEW));
        writer.join().expect("writer");
    });
}

/// Blocks of a bitmap cache go from one item to another.
#[test]
fn a_reader_never_finds_reused_blocks() {
    model("name=l,items=2,blocksize=8,blocks=4,bitmap=1,keysize=8", |cache| {
        cache.set(b"a", OLD, 0, NOW).expect("room");
        let writer = beside(&cache, |cache| {
            cache.delete(b"a", NOW).expect("there");
            cache.set(b"b", b"newnewnewnewnewnewnewnewnewnew", 0, NOW).expect("all blocks");
        });
        assert!(get(&cache, b"a").is_none_or(|found| found == OLD));
        writer.join().expect("writer");
    });
}

/// A miss is only believed if nothing was taken out of the shard meanwhile: the reader may have been led into another chain.
#[test]
fn a_reader_does_not_miss_what_is_there() {
    model("name=l,items=2,blocksize=8,keysize=8", |cache| {
        cache.set(b"stays", b"v", 0, NOW).expect("room");
        cache.set(b"goes", b"v", 0, NOW).expect("room");
        let reader =
            beside(&cache, |cache| assert_eq!(get(cache, b"stays").as_deref().map(|found| found == b"v" || found == b"w"), Some(true)));
        cache.delete(b"goes", NOW).expect("there");
        cache.update(b"stays", b"w", 0, NOW).expect("the slot that came free, now the last of the chain");
        reader.join().expect("reader");
    });
}

#[test]
fn two_writers_lose_nothing() {
    use imperator_cache::Math;
    model("name=l,items=1,blocksize=8,keysize=8", |cache| {
        let other = beside(&cache, |cache| assert!(cache.math(b"n", Math::Add, 1, 0, NOW).is_ok()));
        cache.math(b"n", Math::Add, 1, 0, NOW).expect("room");
        other.join().expect("writer");
        assert_eq!(cache.number(b"n", NOW), 2);
        assert_eq!(cache.stats().items, 1);
    });
}
