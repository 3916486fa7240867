//! A fuzz target for each parser. Every run takes the seeds of `__fuzz__/<target>/corpus`, mutations of them, and random bytes;
//! how many is bounded, and `BOLERO_RANDOM_ITERATIONS=1000000` and `PROPTEST_CASES=1000000` raise it. `cargo bolero test` runs
//! the same targets guided by coverage where a nightly compiler is at hand. An input that breaks a target belongs into its corpus.

mod targets;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::path::Path;

/// Random inputs, and as many mutations, of each target in an ordinary run.
const ITERATIONS: u32 = 3000;

macro_rules! fuzz {
    ($($target:ident),+) => {
        $(
            #[test]
            fn $target() {
                mutations(stringify!($target), targets::$target);
                bolero::check!(name = stringify!($target)).with_iterations(ITERATIONS as usize).with_max_len(2048).for_each(|input: &[u8]| targets::$target(input));
            }
        )+
    };
}

fuzz!(packet, vars, http_head, chunked, proxy, response, cache, ranges, codings, tags);

/// Runs the target on its seeds and on mutations of them.
fn mutations(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    assert!(seeds.len() >= 5, "the corpus of {name} is missing");
    seeds.iter().for_each(|seed| target(seed));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(ITERATIONS);
    let seed = proptest::sample::select(seeds);
    let strategy = (seed.clone(), seed, proptest::collection::vec(mutation(), 1..5));
    let outcome =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() }).run(&strategy, |(seed, other, mutations)| {
            let input = mutations.iter().fold(seed, |input, mutation| mutation.apply(input, &other));
            target(&input);
            Ok(())
        });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__").join(name).join("corpus");
    let mut paths: Vec<_> = std::fs::read_dir(corpus).expect("a corpus").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// A change to an input.
#[derive(Debug, Clone)]
enum Mutation {
    Byte(Index, u8),
    Delete(Index, Index),
    Repeat(Index, Index, usize),
    Insert(Index, &'static [u8]),
    /// Goes on as the other seed does from there.
    Splice(Index, Index),
}

/// What parsers trip over.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"%",
    b"%00",
    b"_",
    b"-",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff",
    b"\0\0",
    b"\x01\0",
    b"0",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"chunked",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Connection: close\r\n",
    b"X_A: 1\r\n",
    b"X-A: 1\r\n",
    b"Cookie: a\r\n",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        (at(), at()).prop_map(|(from, to)| Mutation::Delete(from, to)),
        (at(), at(), 2usize..20).prop_map(|(from, to, times)| Mutation::Repeat(from, to, times)),
        (at(), proptest::sample::select(WORDS)).prop_map(|(at, word)| Mutation::Insert(at, word)),
        (at(), at()).prop_map(|(from, to)| Mutation::Splice(from, to)),
    ]
}

impl Mutation {
    fn apply(&self, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Byte(at, byte) => {
                let at = place(at, &input);
                if let Some(changed) = input.get_mut(at) {
                    *changed = *byte;
                }
            }
            Self::Delete(from, to) => {
                let (from, to) = ordered(place(from, &input), place(to, &input));
                input.drain(from..to);
            }
            Self::Repeat(from, to, times) => {
                let (from, to) = ordered(place(from, &input), place(to, &input));
                let part = input[from..to].repeat(*times);
                input.splice(from..to, part);
            }
            Self::Insert(at, word) => {
                let at = place(at, &input);
                input.splice(at..at, word.iter().copied());
            }
            Self::Splice(from, to) => {
                input.truncate(place(from, &input));
                input.extend_from_slice(&other[place(to, other)..]);
            }
        }
        input
    }
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
