//! Store files: what survives, what is refused, what is put aside.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use imperator_cache::{Cache, Definition, Math, StoreError};

const NOW: u64 = 1_000_000;

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("a.cache");
        Self { _directory: directory, path }
    }

    fn definition(&self, options: &str) -> Definition {
        Definition::parse(&format!("name=a,store={},{options}", self.path.display())).expect(options)
    }

    fn open(&self, options: &str) -> Result<Cache, StoreError> {
        Cache::create(&self.definition(options))
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).expect("the store")
    }

    fn filled(&self, options: &str, items: u64) {
        let cache = self.open(options).expect("a store");
        (0..items).for_each(|i| assert!(cache.set(&key(i), &value(i), 0, NOW).is_ok()));
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    format!("the value of {number}, ").into_bytes().repeat(2)
}

fn get(cache: &Cache, key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    cache.get(key, NOW, &mut value).map(|_| value)
}

/// Where `needle` is in the file, first.
fn find(path: &Path, needle: &[u8]) -> u64 {
    let bytes = std::fs::read(path).expect("the store");
    bytes.windows(needle.len()).position(|window| window == needle).expect("in the file") as u64
}

#[test]
fn items_survive_and_new_ones_do_not_overwrite_them() {
    for options in ["items=30,blocksize=64", "items=30,blocksize=16,blocks=300,bitmap=1", "items=200,blocksize=64,purge_lru=1"] {
        let place = Place::new();
        {
            let cache = place.open(options).expect("new");
            assert_eq!(cache.restored(), None);
            (0..20).for_each(|i| assert!(cache.set(&key(i), &value(i), if i == 3 { NOW + 5 } else { 0 }, NOW).is_ok()));
            assert!(cache.update(&key(1), &value(100), 0, NOW).is_ok());
            assert_eq!(cache.math(b"number", Math::Add, 7, 0, NOW), Ok(7));
            assert_eq!(cache.math(b"number", Math::Add, 7, 0, NOW), Ok(14));
            assert_eq!(cache.delete(&key(2), NOW), Ok(()));
            cache.sync().expect("sync");
        }
        assert_eq!(std::fs::metadata(&place.path).expect("file").permissions().mode() & 0o777, 0o600);
        let cache = place.open(options).expect("again");
        assert_eq!(cache.restored().map(|restored| (restored.items, restored.dropped)), Some((20, 0)), "{options}");
        assert_eq!(cache.stats().items, 20);
        (20..28).for_each(|i| assert!(cache.set(&key(i), &value(i), 0, NOW).is_ok(), "{options}"));
        assert_eq!((get(&cache, &key(1)), get(&cache, &key(2)), cache.number(b"number", NOW)), (Some(value(100)), None, 14));
        (3..28).for_each(|i| assert_eq!(get(&cache, &key(i)), Some(value(i)), "{options}"));
        assert_eq!((cache.sweep(NOW + 5), get(&cache, &key(3))), (1, None), "the expiry survived");
    }
}

#[test]
fn what_was_used_longest_ago_is_known_after_a_restart() {
    let place = Place::new();
    place.filled("items=5,blocksize=64,purge_lru=1", 5);
    assert!(get(&place.open("items=5,blocksize=64,purge_lru=1").expect("again"), &key(0)).is_some());
    let cache = place.open("items=5,blocksize=64,purge_lru=1").expect("again");
    (5..9).for_each(|i| assert!(cache.set(&key(i), &value(i), 0, NOW).is_ok()));
    assert!(cache.exists(&key(0), NOW));
}

#[test]
fn an_item_that_is_not_whole_is_dropped_and_the_others_served() {
    let place = Place::new();
    place.filled("items=30,blocksize=64", 20);
    for number in [3, 9] {
        place.file().write_all_at(b"X", find(&place.path, &value(number)) + 4).expect("write");
    }
    place.file().write_all_at(b"X", find(&place.path, &key(15)) + 2).expect("write");
    let cache = place.open("items=30,blocksize=64").expect("again");
    assert_eq!(cache.restored().map(|restored| (restored.items, restored.dropped)), Some((17, 3)));
    for number in 0..20 {
        assert_eq!(get(&cache, &key(number)), (![3, 9, 15].contains(&number)).then(|| value(number)));
    }
    (0..13).for_each(|i| assert!(cache.set(&key(100 + i), &value(i), 0, NOW).is_ok(), "the room of dropped items is free"));
    assert!(cache.set(b"one more", b"v", 0, NOW).is_err());
}

#[test]
fn another_shape_is_refused_or_replaced() {
    let place = Place::new();
    place.filled("items=10,blocksize=100", 5);
    let error = place.open("items=20,blocksize=100").err().expect("refused").to_string();
    assert!(error.contains("items=10 blocks=") && error.contains("items=20") && error.contains("store_delete"), "{error}");
    assert_eq!(place.open("items=10,blocksize=100").expect("untouched").restored().map(|restored| restored.items), Some(5));
    let cache = place.open("items=20,blocksize=100,store_delete=1").expect("replaced");
    assert_eq!((cache.restored(), cache.stats().items), (None, 0));
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let place = Place::new();
    std::fs::write(&place.path, b"somebody's letters").expect("write");
    assert!(matches!(place.open("items=10"), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read(&place.path).expect("read"), b"somebody's letters");
    assert!(place.open("items=10,store_delete=1").is_ok(), "store_delete says that it may go");

    let place = Place::new();
    std::fs::create_dir(&place.path).expect("directory");
    assert!(place.open("items=10").is_err());
    let place = Place::new();
    nix::unistd::mkfifo(&place.path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("fifo");
    assert!(matches!(place.open("items=10"), Err(StoreError::NotAFile { .. })));
    assert!(matches!(
        Cache::create(&Definition::parse("name=a,items=5,store=/nonexistent/dir/f").expect("valid")),
        Err(StoreError::Open { .. })
    ));
}

#[test]
fn a_damaged_file_is_put_aside_never_served() {
    type Harm = fn(&File);
    let harms: [Harm; 3] = [
        |file| file.write_all_at(&[0xff], 20).expect("write"),
        |file| file.write_all_at(&[0xff; 40], 16).expect("write"),
        |file| file.set_len(9000).expect("cut"),
    ];
    for (number, harm) in harms.iter().enumerate() {
        let place = Place::new();
        for round in 1..=2 {
            place.filled("items=10,blocksize=100", 5);
            harm(&place.file());
            let cache = place.open("items=10,blocksize=100").expect("a new one");
            let restored = cache.restored().expect("told").clone();
            let aside = restored.set_aside.expect("put aside");
            assert_eq!(aside.kept_as, PathBuf::from(format!("{}.damaged-{round}", place.path.display())), "harm {number}");
            assert!(aside.kept_as.exists() && !aside.why.is_empty());
            assert_eq!((restored.items, cache.stats().items), (0, 0));
            drop(cache);
            std::fs::remove_file(&place.path).expect("remove");
        }
    }
}

#[test]
fn a_file_whose_maker_was_killed_is_made_again() {
    let place = Place::new();
    place.filled("items=10,blocksize=100", 5);
    place.file().write_all_at(&[0; 80], 0).expect("write");
    let cache = place.open("items=10,blocksize=100").expect("made again");
    assert_eq!(cache.stats().items, 0);
    std::fs::write(Place::new().path, b"").expect("write");
}

#[test]
fn two_instances_do_not_share_a_store() {
    let place = Place::new();
    let first = place.open("items=10").expect("new");
    assert!(matches!(place.open("items=10"), Err(StoreError::InUse { .. })));
    drop(first);
    assert!(place.open("items=10").is_ok());
}

#[test]
fn a_file_that_somebody_cuts_gets_its_size_back() {
    let place = Place::new();
    let cache = place.open("items=10").expect("new");
    let size = place.file().metadata().expect("file").len();
    place.file().set_len(size - 4096).expect("cut");
    assert!(cache.sync().expect_err("noticed").to_string().contains("cut"));
    assert_eq!(place.file().metadata().expect("file").len(), size);
    cache.sync().expect("whole again");
}

/// Whatever bytes are in a store that was damaged in the middle: it loads, and what it serves has the right checksum.
#[test]
fn random_damage_never_serves_a_wrong_value() {
    let place = Place::new();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 20) % limit
    };
    for _ in 0..60 {
        let _ = std::fs::remove_file(&place.path);
        place.filled("items=30,blocksize=16,blocks=300,bitmap=1,purge_lru=1,keysize=120", 25);
        let size = place.file().metadata().expect("file").len();
        for _ in 0..200 {
            let at = 4096 + random(size - 4096 - 8);
            place.file().write_all_at(&random(u64::MAX).to_le_bytes()[..1 + random(8) as usize], at).expect("write");
        }
        let cache = place.open("items=30,blocksize=16,blocks=300,bitmap=1,purge_lru=1,keysize=120").expect("loads");
        cache
            .for_each(NOW, |item| {
                let number = String::from_utf8_lossy(&item.key).trim_start_matches("key-").parse().expect("a key of ours");
                assert_eq!(item.value, value(number));
            })
            .expect("dump");
        (0..40).for_each(|i| assert_eq!(cache.update(&key(i), &value(i), 0, NOW).err(), None));
    }
}
