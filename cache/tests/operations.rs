//! What each operation does and answers, in one process.

use imperator_cache::{Cache, Definition, Full, Math, Refused, Stored};

const NOW: u64 = 1_000_000;

fn cache(line: &str) -> Cache {
    Cache::create(&Definition::parse(&format!("name=test,{line}")).expect(line)).expect(line)
}

fn get(cache: &Cache, key: &str) -> Option<Vec<u8>> {
    get_at(cache, key, NOW)
}

fn get_at(cache: &Cache, key: &str, now: u64) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    cache.get(key.as_bytes(), now, &mut value).map(|_| value)
}

fn set(cache: &Cache, key: &str, value: &[u8]) -> Result<Stored, Refused> {
    cache.set(key.as_bytes(), value, 0, NOW)
}

fn update(cache: &Cache, key: &str, value: &[u8]) -> Result<Stored, Refused> {
    cache.update(key.as_bytes(), value, 0, NOW)
}

#[test]
fn set_get_update_delete_exists() {
    let c = cache("items=10");
    assert_eq!(get(&c, "k"), None);
    assert!(!c.exists(b"k", NOW));
    assert_eq!(set(&c, "k", b"one"), Ok(Stored::default()));
    assert_eq!(get(&c, "k").as_deref(), Some(&b"one"[..]));
    assert!(c.exists(b"k", NOW));
    assert_eq!(set(&c, "k", b"two"), Err(Refused::Exists));
    assert!(update(&c, "k", b"three!").is_ok());
    assert_eq!(get(&c, "k").as_deref(), Some(&b"three!"[..]));
    assert_eq!(c.delete(b"k", NOW), Ok(()));
    assert_eq!(c.delete(b"k", NOW), Err(Refused::Absent));
    assert_eq!(get(&c, "k"), None);
    let stats = c.stats();
    assert_eq!((stats.items, stats.hits, stats.misses, stats.full), (0, 2, 2, 0));
}

#[test]
fn every_length_comes_back_whole() {
    let c = cache("items=10,keysize=300,blocksize=300");
    for length in 1..=300 {
        let key: String = (0..length).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        let value: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
        assert!(set(&c, &key, &value).is_ok(), "{length}");
        assert_eq!(get(&c, &key), Some(value), "{length}");
        assert_eq!(c.keys(NOW).expect("keys"), [key.as_bytes()]);
        assert_eq!(c.delete(key.as_bytes(), NOW), Ok(()));
    }
}

#[test]
fn what_is_empty_or_too_large_is_refused() {
    let c = cache("items=2,blocksize=10,keysize=5");
    assert_eq!(set(&c, "", b"x"), Err(Refused::EmptyKey));
    assert_eq!(set(&c, "k", b""), Err(Refused::EmptyValue));
    assert_eq!(set(&c, "kkkkkk", b"x"), Err(Refused::KeyTooLarge { length: 6, limit: 5 }));
    assert_eq!(set(&c, "kkkkk", &[1; 11]), Err(Refused::ValueTooLarge { length: 11, limit: 10 }));
    assert!(set(&c, "kkkkk", &[1; 10]).is_ok());
    assert_eq!(update(&c, "kkkkk", &[1; 11]), Err(Refused::ValueTooLarge { length: 11, limit: 10 }));
    assert_eq!(get(&c, "kkkkk"), Some(vec![1; 10]));
    assert_eq!(get(&c, "kkkkkk"), None);
    assert_eq!(get(&c, ""), None);
}

#[test]
fn it_holds_as_many_items_as_it_says() {
    for items in [1, 2, 10, 100, 1000] {
        let c = cache(&format!("items={items},blocksize=8"));
        for i in 0..items {
            assert!(set(&c, &format!("k{i}"), b"v").is_ok(), "{i} of {items}");
        }
        assert_eq!(set(&c, "more", b"v"), Err(Refused::Full(Full::Items)));
        assert_eq!((c.stats().items, c.stats().full), (items, 1));
        for i in 0..items {
            assert!(update(&c, &format!("k{i}"), b"new").is_ok(), "replacing works when full");
        }
        assert_eq!(c.delete(b"k0", NOW), Ok(()));
        assert!(set(&c, "more", b"v").is_ok());
        assert_eq!(c.keys(NOW).expect("keys").len() as u64, items);
    }
}

#[test]
fn expired_items_are_never_returned() {
    let c = cache("items=2");
    assert!(c.set(b"k", b"v", NOW + 5, NOW).is_ok());
    let mut value = Vec::new();
    assert_eq!(c.get(b"k", NOW + 4, &mut value).map(|hit| hit.expires), Some(NOW + 5));
    assert_eq!(get_at(&c, "k", NOW + 5), None);
    assert!(!c.exists(b"k", NOW + 5));
    assert!(c.keys(NOW + 5).expect("keys").is_empty());
    assert_eq!(c.set(b"k", b"again", NOW + 9, NOW + 5), Ok(Stored::default()), "an expired item refuses no set");
    assert_eq!(get_at(&c, "k", NOW + 6).as_deref(), Some(&b"again"[..]));
    assert_eq!(c.delete(b"k", NOW + 9), Err(Refused::Absent));
    assert_eq!(c.stats().items, 0);
    assert!(c.update(b"k", b"v", NOW - 1, NOW).is_ok());
    assert_eq!(get(&c, "k"), None, "expired already");
}

#[test]
fn the_sweeper_removes_what_expired_and_knows_when_to_come_again() {
    let c = cache("items=100");
    assert_eq!(c.next_expiry(), None);
    for i in 0..50u64 {
        assert!(c.set(format!("k{i}").as_bytes(), b"v", if i % 2 == 0 { 0 } else { NOW + i }, NOW).is_ok());
    }
    assert_eq!(c.next_expiry(), Some(NOW + 1));
    assert_eq!(c.sweep(NOW), 0);
    assert_eq!(c.sweep(NOW + 9), 5);
    assert_eq!(c.next_expiry(), Some(NOW + 11));
    assert_eq!(c.sweep(NOW + 100), 20);
    assert_eq!((c.next_expiry(), c.stats().items), (None, 25));
}

#[test]
fn numbers_wrap_and_keep_their_expiry() {
    let c = cache("items=10,math_initial=5");
    assert_eq!(c.math(b"n", Math::Add, 2, NOW + 9, NOW), Ok(7));
    assert_eq!(c.math(b"n", Math::Multiply, 6, 0, NOW), Ok(42));
    assert_eq!(c.math(b"n", Math::Subtract, 2, 0, NOW), Ok(40));
    assert_eq!(c.math(b"n", Math::Divide, 3, 0, NOW), Ok(13));
    assert_eq!((c.number(b"n", NOW), get(&c, "n")), (13, Some(13i64.to_le_bytes().to_vec())));
    assert_eq!(c.math(b"n", Math::Divide, 0, 0, NOW), Ok(0));
    assert_eq!(c.number(b"n", NOW + 9), 0, "expired: the expiry was left alone");
    assert_eq!(c.math(b"n", Math::Add, 1, 0, NOW + 9), Ok(6), "from the start again");
    assert_eq!(c.math(b"w", Math::Add, i64::MAX, 0, NOW), Ok(i64::MAX.wrapping_add(5)));
    assert_eq!(Math::Divide.apply(i64::MIN, -1), i64::MIN);
    assert!(set(&c, "s", b"12345678x").is_ok());
    assert_eq!(c.math(b"s", Math::Add, 1, 0, NOW), Err(Refused::NotANumber));
    assert_eq!((c.number(b"s", NOW), c.number(b"absent", NOW)), (0, 0));
    let small = cache("items=1,blocksize=7");
    assert_eq!(small.math(b"n", Math::Add, 1, 0, NOW), Err(Refused::ValueTooLarge { length: 8, limit: 7 }));
}

#[test]
fn lru_gives_up_what_was_used_longest_ago_across_shards() {
    for items in [1u64, 5, 200] {
        let c = cache(&format!("items={items},purge_lru=1,blocksize=8"));
        for i in 0..items {
            assert!(set(&c, &format!("k{i}"), b"v").is_ok());
        }
        assert!(get(&c, "k0").is_some());
        for i in 1..items {
            assert_eq!(set(&c, &format!("n{i}"), b"v").map(|stored| stored.evicted), Ok(1));
            assert!(!c.exists(format!("k{i}").as_bytes(), NOW), "{i}");
        }
        assert!(c.exists(b"k0", NOW));
        assert!(set(&c, "last", b"v").is_ok());
        assert!(!c.exists(b"k0", NOW));
        assert_eq!(c.stats().items, items);
    }
}

#[test]
fn lru_and_expiry_work_together() {
    let c = cache("items=3,purge_lru=1");
    assert!(c.set(b"a", b"1", NOW + 3, NOW).is_ok());
    assert!(get(&c, "a").is_some());
    assert_eq!(get_at(&c, "a", NOW + 3), None);
    assert_eq!(c.sweep(NOW + 3), 1);
}

#[test]
fn bitmap_values_take_consecutive_blocks_anywhere() {
    let c = cache("items=10,bitmap=1,blocksize=100,blocks=50");
    let whole = vec![7; 5000];
    assert_eq!(set(&c, "huge", &[1; 5001]), Err(Refused::ValueTooLarge { length: 5001, limit: 5000 }));
    for round in 0..3 {
        assert!(set(&c, "a", &[1; 1950]).is_ok());
        assert!(set(&c, "b", &[2; 1000]).is_ok());
        assert!(set(&c, "c", &[3; 2000]).is_ok());
        assert_eq!(set(&c, "d", &[4; 100]), Err(Refused::Full(Full::Blocks)));
        assert_eq!(update(&c, "b", &[5; 200]), Err(Refused::Full(Full::Blocks)));
        assert_eq!(get(&c, "b"), Some(vec![2; 1000]), "the old value stays");
        assert_eq!(c.delete(b"b", NOW), Ok(()));
        assert!(set(&c, "b", &[6; 1000]).is_ok());
        assert_eq!((get(&c, "a"), get(&c, "b"), get(&c, "c")), (Some(vec![1; 1950]), Some(vec![6; 1000]), Some(vec![3; 2000])));
        ["a", "b", "c"].iter().for_each(|key| assert_eq!(c.delete(key.as_bytes(), NOW), Ok(())));
        assert!(set(&c, "whole", &whole).is_ok(), "round {round}: all of it is searched");
        assert_eq!(get(&c, "whole").as_ref(), Some(&whole));
        assert_eq!(c.delete(b"whole", NOW), Ok(()));
    }
}

#[test]
fn a_bitmap_write_evicts_as_many_as_it_takes_at_once() {
    let c = cache("items=40,bitmap=1,blocksize=10,blocks=40,purge_lru=1");
    for i in 0..40 {
        assert!(set(&c, &format!("k{i}"), &[1; 10]).is_ok());
    }
    assert_eq!(set(&c, "big", &[9; 300]).map(|stored| stored.evicted), Ok(30));
    assert_eq!(get(&c, "big"), Some(vec![9; 300]));
    assert!(update(&c, "big", &[8; 400]).is_ok(), "even what it replaces goes, if that is what it takes");
    assert_eq!((get(&c, "big"), c.stats().items), (Some(vec![8; 400]), 1));
}

#[test]
fn a_full_cache_is_swept_or_emptied_where_that_is_asked_for() {
    let c = cache("items=3,sweep_on_full=10");
    for (key, expires) in [("a", NOW + 1), ("b", 0), ("c", NOW + 1)] {
        assert!(c.set(key.as_bytes(), b"v", expires, NOW).is_ok());
    }
    assert_eq!(c.set(b"d", b"v", 0, NOW + 2).map(|stored| (stored.was_full, stored.swept)), Ok((true, 2)));
    assert!(c.set(b"e", b"v", NOW + 3, NOW + 2).is_ok());
    assert_eq!(c.set(b"f", b"v", 0, NOW + 5), Err(Refused::Full(Full::Items)), "not again so soon");
    assert!(c.set(b"f", b"v", 0, NOW + 12).is_ok());

    let c = cache("items=2,clear_on_full=1");
    assert!(set(&c, "a", b"v").is_ok() && set(&c, "b", b"v").is_ok());
    assert_eq!(set(&c, "c", b"v").map(|stored| stored.cleared), Ok(true));
    assert_eq!(c.keys(NOW).expect("keys"), [b"c"]);
}

#[test]
fn clear_leaves_nothing_and_everything_can_be_used_again() {
    for options in ["items=50", "items=50,lru=1", "items=50,bitmap=1,blocksize=10"] {
        let c = cache(options);
        for _ in 0..3 {
            for i in 0..50 {
                assert!(set(&c, &format!("k{i}"), b"0123456789").is_ok(), "{options}");
            }
            assert_eq!(c.clear(NOW), Ok(50));
            assert_eq!((c.stats().items, c.keys(NOW).expect("keys").len(), get(&c, "k7")), (0, 0, None));
        }
    }
}

#[test]
fn the_last_change_is_kept_if_asked_for() {
    let c = cache("items=5,lastmod=1");
    assert_eq!(c.stats().last_modified_at, 0);
    assert!(set(&c, "k", b"v").is_ok());
    assert_eq!(c.stats().last_modified_at, NOW);
    assert!(c.set(b"k", b"v", 0, NOW + 1).is_err());
    assert_eq!(c.stats().last_modified_at, NOW);
    assert_eq!(c.delete(b"k", NOW + 2), Ok(()));
    assert_eq!(c.stats().last_modified_at, NOW + 2);
    assert_eq!(cache("items=5").stats().last_modified_at, 0);
}

#[test]
fn another_process_maps_the_same_items() {
    use std::os::fd::AsFd;
    let c = cache("items=5");
    assert!(set(&c, "k", b"v").is_ok());
    let fd = || c.as_fd().try_clone_to_owned().expect("dup");
    let other = Cache::open(fd(), &Definition::parse("name=test,items=5,lazy=1").expect("valid")).expect("same shape");
    assert_eq!(get(&other, "k").as_deref(), Some(&b"v"[..]));
    assert!(Cache::open(fd(), &Definition::parse("name=test,items=4").expect("valid")).is_err());
    assert!(c.fits(&Definition::parse("name=test,items=5,lazy=1").expect("valid")));
    assert!(!c.fits(&Definition::parse("name=test,items=4").expect("valid")));
}

#[test]
fn a_dump_has_every_item() {
    let c = cache("items=100");
    for i in 0..100u64 {
        assert!(c.set(format!("k{i}").as_bytes(), format!("v{i}").as_bytes(), NOW + i, NOW - 1).is_ok());
    }
    let mut items = Vec::new();
    c.for_each(NOW, |item| items.push(item)).expect("dump");
    assert_eq!(items.len(), 99, "all but the expired one");
    assert!(items.iter().all(|item| item.value[1..] == item.key[1..] && item.expires > NOW));
    assert_eq!((c.stats().hits, c.stats().misses), (0, 0));
}
