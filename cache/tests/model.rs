//! Random sequences of operations against a map that does the same in the simplest way. `PROPTEST_CASES=100000` for a long run.

use std::collections::HashMap;

use imperator_cache::{Cache, Definition, Full, Math, Refused, Stored};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

const KEYSIZE: usize = 150;
const BLOCKSIZE: usize = 20;

#[derive(Debug, Clone)]
enum Op {
    Get(usize),
    Exists(usize),
    Set(usize, usize, u64),
    Update(usize, usize, u64),
    Delete(usize),
    Math(usize, Math, i64, u64),
    Number(usize),
    Keys,
    Clear,
    Sweep,
    /// Seconds pass.
    Wait(u64),
    /// The store is closed and opened again.
    Reopen,
}

fn key() -> impl Strategy<Value = usize> {
    0..60usize
}

fn lifetime() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0u64), 2 => 1..20u64]
}

fn op() -> impl Strategy<Value = Op> {
    let math = prop_oneof![Just(Math::Add), Just(Math::Subtract), Just(Math::Multiply), Just(Math::Divide)];
    prop_oneof![
        8 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::Exists),
        8 => (key(), 0..450usize, lifetime()).prop_map(|(k, v, e)| Op::Set(k, v, e)),
        8 => (key(), 0..450usize, lifetime()).prop_map(|(k, v, e)| Op::Update(k, v, e)),
        4 => key().prop_map(Op::Delete),
        3 => (key(), math, any::<i64>(), lifetime()).prop_map(|(k, m, n, e)| Op::Math(k, m, n, e)),
        1 => key().prop_map(Op::Number),
        1 => Just(Op::Keys),
        1 => proptest::bool::weighted(0.1).prop_map(|clear| if clear { Op::Clear } else { Op::Keys }),
        1 => Just(Op::Sweep),
        2 => (1..5u64).prop_map(Op::Wait),
        1 => Just(Op::Reopen),
    ]
}

/// Some keys are short, some long, one too long, one empty.
fn key_bytes(key: usize) -> Vec<u8> {
    match key {
        0 => Vec::new(),
        1 => vec![b'x'; KEYSIZE + 1],
        key if key % 5 == 0 => [vec![b'l'; 120], vec![key as u8]].concat(),
        key => format!("k{key}").into_bytes(),
    }
}

#[derive(Debug, Clone)]
struct Entry {
    value: Vec<u8>,
    expires: u64,
    used: u64,
}

struct Model {
    items: HashMap<Vec<u8>, Entry>,
    definition: Definition,
    now: u64,
    clock: u64,
    full: u64,
    hits: u64,
    misses: u64,
}

impl Model {
    fn live(&self, key: &[u8]) -> Option<&Entry> {
        self.items.get(key).filter(|entry| entry.expires == 0 || entry.expires > self.now)
    }

    fn touch(&mut self, key: &[u8]) {
        self.clock += 1;
        if let Some(entry) = self.items.get_mut(key) {
            entry.used = self.clock;
        }
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>, expires: u64) {
        self.clock += 1;
        self.items.insert(key.into(), Entry { value, expires, used: self.clock });
    }

    fn refusal(&self, key: &[u8], length: usize) -> Option<Refused> {
        let limit = self.definition.largest_value();
        match (key.len(), length) {
            (0, _) => Some(Refused::EmptyKey),
            (bytes, _) if bytes > KEYSIZE => Some(Refused::KeyTooLarge { length: bytes, limit: KEYSIZE as u64 }),
            (_, 0) => Some(Refused::EmptyValue),
            (_, length) if length as u64 > limit => Some(Refused::ValueTooLarge { length, limit }),
            _ => None,
        }
    }

    fn evict(&mut self, many: u64) {
        for _ in 0..many {
            let oldest = self.items.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            self.items.remove(&oldest.expect("something to evict"));
        }
    }

    fn blocks(length: usize) -> usize {
        length.div_ceil(BLOCKSIZE)
    }

    /// What the cache says about a write must be right, and what it did to make room exactly what was needed.
    fn written(&mut self, key: &[u8], value: Vec<u8>, expires: u64, answer: Result<Stored, Refused>) -> Result<(), TestCaseError> {
        let length = value.len();
        let is_new = !self.items.contains_key(key);
        let must_evict = is_new && self.items.len() as u64 >= self.definition.items;
        let used: usize = self.items.values().map(|entry| Self::blocks(entry.value.len())).sum();
        let free = self.definition.blocks as usize - used.min(self.definition.blocks as usize);
        let lacks_blocks = self.definition.bitmap && free < Self::blocks(length);
        if !is_new {
            self.touch(key);
        }
        match answer {
            Ok(stored) => {
                prop_assert!(!lacks_blocks || stored.evicted > 0, "stored in blocks that are not free");
                prop_assert_eq!(stored.was_full, stored.evicted > 0);
                if !self.definition.bitmap {
                    prop_assert_eq!(stored.evicted, u64::from(must_evict));
                }
                prop_assert!(!must_evict || stored.evicted > 0);
                prop_assert!(stored.evicted <= self.items.len() as u64);
                self.full += u64::from(stored.was_full);
                self.evict(stored.evicted);
                self.put(key, value, expires);
            }
            Err(Refused::Full(what)) => {
                self.full += 1;
                prop_assert!(!self.definition.purge_lru, "there is always something to evict");
                prop_assert_eq!(what == Full::Items, must_evict);
                let others = self.items.len() - usize::from(!is_new);
                prop_assert!(must_evict || (self.definition.bitmap && (others > 0 || lacks_blocks)), "refused without need");
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }
}

/// Does one operation on both, and compares.
fn step(cache: &mut Cache, model: &mut Model, op: &Op) -> Result<(), TestCaseError> {
    let now = model.now;
    let expiry = |lifetime: u64| if lifetime == 0 { 0 } else { now + lifetime };
    let fill = |key: usize, length: usize| (0..length).map(|i| (i * 31 + key * 7 + now as usize) as u8).collect::<Vec<u8>>();
    match *op {
        Op::Get(k) => {
            let key = key_bytes(k);
            let mut value = vec![9; 3];
            let hit = cache.get(&key, now, &mut value);
            let expected = model.live(&key).map(|entry| (entry.value.clone(), entry.expires));
            prop_assert_eq!(hit.map(|hit| (value, hit.expires)), expected.clone());
            if expected.is_some() {
                model.hits += 1;
                model.touch(&key);
            } else {
                model.misses += 1;
            }
        }
        Op::Exists(k) => prop_assert_eq!(cache.exists(&key_bytes(k), now), model.live(&key_bytes(k)).is_some()),
        Op::Set(k, length, lifetime) => {
            let (key, value) = (key_bytes(k), fill(k, length));
            let answer = cache.set(&key, &value, expiry(lifetime), now);
            match model.refusal(&key, length).or(model.live(&key).map(|_| Refused::Exists)) {
                Some(refused) => prop_assert_eq!(answer, Err(refused)),
                None => model.written(&key, value, expiry(lifetime), answer)?,
            }
        }
        Op::Update(k, length, lifetime) => {
            let (key, value) = (key_bytes(k), fill(k, length));
            let answer = cache.update(&key, &value, expiry(lifetime), now);
            match model.refusal(&key, length) {
                Some(refused) => prop_assert_eq!(answer, Err(refused)),
                None => model.written(&key, value, expiry(lifetime), answer)?,
            }
        }
        Op::Delete(k) => {
            let key = key_bytes(k);
            let expected = model.refusal(&key, 1).or(if model.live(&key).is_some() { None } else { Some(Refused::Absent) });
            prop_assert_eq!(cache.delete(&key, now).err(), expected);
            model.items.remove(&key);
        }
        Op::Math(k, math, operand, lifetime) => {
            let key = key_bytes(k);
            let answer = cache.math(&key, math, operand, expiry(lifetime), now);
            if let Some(refused) = model.refusal(&key, 8) {
                prop_assert_eq!(answer, Err(refused));
            } else if let Some(entry) = model.live(&key).cloned() {
                match <[u8; 8]>::try_from(&entry.value[..]) {
                    Ok(bytes) => {
                        // With a store the number goes the way of an update, which may need to make room.
                        let number = math.apply(i64::from_le_bytes(bytes), operand);
                        if answer == Err(Refused::Full(Full::Blocks)) {
                            model.full += 1;
                            model.touch(&key);
                        } else {
                            prop_assert_eq!(answer, Ok(number));
                            model.put(&key, number.to_le_bytes().into(), entry.expires);
                        }
                    }
                    Err(_) => prop_assert_eq!(answer, Err(Refused::NotANumber)),
                }
            } else {
                let number = math.apply(model.definition.math_initial, operand);
                let evicted = cache.stats().full - model.full;
                let stored = Stored { was_full: evicted > 0, evicted: u64::from(evicted > 0), ..Stored::default() };
                if answer.is_ok() {
                    prop_assert_eq!(answer, Ok(number));
                }
                model.written(&key, number.to_le_bytes().into(), expiry(lifetime), answer.map(|_| stored))?;
            }
        }
        Op::Number(k) => {
            let key = key_bytes(k);
            let bytes = model.live(&key).and_then(|entry| <[u8; 8]>::try_from(&entry.value[..]).ok());
            prop_assert_eq!(cache.number(&key, now), bytes.map_or(0, i64::from_le_bytes));
            *(if model.live(&key).is_some() { &mut model.hits } else { &mut model.misses }) += 1;
        }
        Op::Keys => {
            let mut keys = cache.keys(now).expect("keys");
            let mut expected: Vec<_> = model.items.keys().filter(|key| model.live(key).is_some()).cloned().collect();
            keys.sort();
            expected.sort();
            prop_assert_eq!(keys, expected);
        }
        Op::Clear => {
            prop_assert_eq!(cache.clear(now), Ok(model.items.len() as u64));
            model.items.clear();
        }
        Op::Sweep => {
            let before = model.items.len();
            model.items.retain(|_, entry| entry.expires == 0 || entry.expires > now);
            prop_assert_eq!(cache.sweep(now), (before - model.items.len()) as u64);
        }
        Op::Wait(seconds) => model.now += seconds,
        Op::Reopen => {
            if let Some(definition) = model.definition.store.is_some().then(|| model.definition.clone()) {
                let memory = Cache::create(&Definition { name: "placeholder".into(), items: 1, ..Definition::default() }).expect("memory");
                drop(std::mem::replace(cache, memory));
                *cache = Cache::create(&definition).expect("its own store");
                let restored = cache.restored().expect("a store that was there");
                prop_assert_eq!((restored.items, restored.dropped), (model.items.len() as u64, 0));
                (model.full, model.hits, model.misses) = (0, 0, 0);
            }
        }
    }
    Ok(())
}

fn run(definition: Definition, ops: &[Op]) -> Result<(), TestCaseError> {
    if let Some(path) = &definition.store {
        let _ = std::fs::remove_file(path);
    }
    let mut cache = Cache::create(&definition).expect("cache");
    let mut model = Model { items: HashMap::new(), definition, now: 1000, clock: 0, full: 0, hits: 0, misses: 0 };
    for op in ops {
        step(&mut cache, &mut model, op)?;
    }
    step(&mut cache, &mut model, &Op::Keys)?;
    let stats = cache.stats();
    prop_assert_eq!((stats.items, stats.full, stats.hits, stats.misses), (model.items.len() as u64, model.full, model.hits, model.misses));
    prop_assert_eq!(stats.repairs, 0, "the cache was damaged by itself");
    for _ in 0..2 {
        cache.clear(model.now).expect("clear");
        let whole = vec![1; model.definition.largest_value() as usize];
        prop_assert!(cache.set(b"whole", &whole, 0, model.now).is_ok(), "blocks were lost");
        cache.clear(model.now).expect("clear");
        for i in 0..model.definition.items {
            prop_assert!(cache.set(&i.to_le_bytes(), b"v", 0, model.now).is_ok(), "slots were lost");
        }
    }
    Ok(())
}

fn check(options: &str, store: bool) {
    let directory = tempfile::tempdir().expect("directory");
    let mut definition =
        Definition::parse(&format!("name=model,keysize={KEYSIZE},blocksize={BLOCKSIZE},math_initial=3,{options}")).expect(options);
    definition.store = store.then(|| directory.path().join("store"));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(120);
    let mut runner =
        proptest::test_runner::TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() });
    if let Err(error) = runner.run(&proptest::collection::vec(op(), 1..300), |ops| run(definition.clone(), &ops)) {
        panic!("{options}: {error}");
    }
}

macro_rules! models {
    ($($name:ident: $options:literal, $store:literal;)+) => {
        $(#[test] fn $name() { check($options, $store); })+
    };
}

models! {
    one_item: "items=1", false;
    few_items: "items=5", false;
    several_shards: "items=40", false;
    lru: "items=5,purge_lru=1", false;
    lru_in_several_shards: "items=40,purge_lru=1", false;
    bitmap: "items=10,blocks=30,bitmap=1", false;
    bitmap_in_several_shards: "items=35,blocks=70,bitmap=1", false;
    bitmap_with_lru: "items=35,blocks=70,bitmap=1,purge_lru=1", false;
    store: "items=40", true;
    store_with_lru: "items=40,purge_lru=1", true;
    store_with_bitmap: "items=35,blocks=200,bitmap=1", true;
}
