//! Many processes at one cache, some of them killed. The children are this test binary again, told by the environment to run one test: [`child`].
//!
//! `CACHE_STRESS_SECONDS=60` and `CACHE_KILLS=2000` make the runs long.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use imperator_cache::{Cache, Definition, Math, Refused};
use imperator_sys::segment::Segment;

const NOW: u64 = 1_000_000;
const KEYS: u64 = 100;
/// Cells of the board: what children tell the parent.
const BOARD: usize = 4096;

/// Where children count, by kind of figure.
#[derive(Clone, Copy)]
enum Figure {
    Operations,
    /// Increments that were answered.
    Added,
    Hits,
    Stop,
    /// Children that are at work.
    Started,
}

struct Board(Segment);

impl Board {
    fn cell(&self, figure: Figure) -> &AtomicU64 {
        &self.0.u64s(figure as usize * 64, 1)[0]
    }

    fn get(&self, figure: Figure) -> u64 {
        self.cell(figure).load(Relaxed)
    }
}

/// A generator of numbers that is good enough to choose keys by.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20) % limit.max(1)
    }
}

/// A value that says whose it is, and whether it is whole.
fn value(key: u64, salt: u64, length: usize) -> Vec<u8> {
    let mut value = vec![0; length.max(24)];
    value[..8].copy_from_slice(&key.to_le_bytes());
    value[8..16].copy_from_slice(&salt.to_le_bytes());
    let mut random = Random(salt | 1);
    value[24..].fill_with(|| random.below(256) as u8);
    let sum = crc32fast::hash(&value[24..]) as u64 ^ key.rotate_left(17) ^ salt ^ length.max(24) as u64;
    value[16..24].copy_from_slice(&sum.to_le_bytes());
    value
}

fn verify(key: u64, value: &[u8]) {
    let word = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().expect("8 bytes"));
    assert!(value.len() >= 24, "a value of {} bytes", value.len());
    assert_eq!(word(0), key, "a foreign value");
    let sum = crc32fast::hash(&value[24..]) as u64 ^ key.rotate_left(17) ^ word(8) ^ value.len() as u64;
    assert_eq!(word(16), sum, "a torn value");
}

fn key(number: u64) -> Vec<u8> {
    if number % 7 == 0 { format!("{number:0>130}").into_bytes() } else { format!("key{number}").into_bytes() }
}

/// One random operation on the cache.
fn operate(cache: &Cache, random: &mut Random, board: &Board, largest: u64) {
    let number = random.below(KEYS);
    let key = key(number);
    let length = random.below(largest) as usize;
    match random.below(16) {
        0..=4 => {
            let mut found = Vec::new();
            if cache.get(&key, NOW, &mut found).is_some() {
                verify(number, &found);
                board.cell(Figure::Hits).fetch_add(1, Relaxed);
            }
        }
        5..=7 => allowed(cache.set(&key, &value(number, random.0, length), 0, NOW).err()),
        8..=11 => allowed(cache.update(&key, &value(number, random.0, length), if length % 5 == 0 { NOW + 10 } else { 0 }, NOW).err()),
        12..=13 => allowed(cache.delete(&key, NOW).err()),
        14 => {
            assert!(cache.math(b"counter", Math::Add, 1, 0, NOW).is_ok());
            board.cell(Figure::Added).fetch_add(1, Relaxed);
        }
        _ => match random.below(40) {
            0 => drop(cache.sweep(NOW + 10)),
            1 => drop(cache.keys(NOW)),
            _ => drop(cache.exists(&key, NOW)),
        },
    }
    board.cell(Figure::Operations).fetch_add(1, Relaxed);
}

fn allowed(refused: Option<Refused>) {
    assert!(matches!(refused, None | Some(Refused::Exists | Refused::Absent | Refused::Full(_))), "{refused:?}");
}

/// What a child does. An ordinary run of it as a test does nothing.
#[test]
fn child() {
    let Ok(work) = std::env::var("CACHE_CHILD") else { return };
    let mut parts = work.split('|');
    let mut next = || parts.next().expect("a part").to_owned();
    let (seed, kind, line, cache, board) = (next(), next(), next(), next(), next());
    let cache = Cache::open(open(&cache), &Definition::parse(&line).expect("definition")).expect("cache");
    let board = Board(Segment::map(open(&board), BOARD).expect("board"));
    let mut random = Random(seed.parse::<u64>().expect("seed") | 1);
    board.cell(Figure::Started).fetch_add(1, Relaxed);
    let largest = cache.definition().largest_value().min(3000);
    while board.get(Figure::Stop) == 0 {
        match kind.as_str() {
            "mixed" => operate(&cache, &mut random, &board, largest),
            _ => {
                for _ in 0..100_000 {
                    cache.math(b"counter", Math::Add, 1, 0, NOW).expect("a number");
                }
                break;
            }
        }
    }
}

fn open(path: &str) -> OwnedFd {
    OpenOptions::new().read(true).write(true).open(path).expect("the parent's descriptor").into()
}

/// A cache, a board, and children at work on them.
struct Herd {
    line: String,
    cache: Cache,
    board: Board,
    children: Vec<Child>,
    seed: u64,
}

impl Herd {
    fn new(line: &str) -> Self {
        let cache = Cache::create(&Definition::parse(line).expect(line)).expect(line);
        cache.math(b"counter", Math::Add, 0, 0, NOW).expect("room");
        let board = Board(Segment::memfd("board", BOARD).expect("memfd"));
        Self { line: line.into(), cache, board, children: Vec::new(), seed: 0x9e37_79b9 }
    }

    fn start(&mut self, kind: &str) {
        let path = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (cache, board) = (path(self.cache.as_fd().as_raw_fd()), path(self.board.0.as_fd().as_raw_fd()));
        let work = format!("{}|{kind}|{}|{cache}|{board}", self.seed, self.line);
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "child", "--nocapture"]).env("CACHE_CHILD", work).stdout(Stdio::null());
        self.children.push(command.spawn().expect("a child"));
    }

    /// Waits until the children have come so far.
    fn wait_for(&self, far_enough: impl Fn(&Board) -> bool) {
        let started = Instant::now();
        while !far_enough(&self.board) {
            assert!(started.elapsed() < Duration::from_secs(60), "the children do not get on in {}", self.line);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Lets all end by themselves; none may have failed.
    fn finish(&mut self) {
        self.board.cell(Figure::Stop).store(1, Relaxed);
        for mut child in self.children.drain(..) {
            let status = child.wait().expect("wait");
            assert!(status.success(), "a child failed: {status}");
        }
    }

    /// Every item is whole, the count of items is right, and neither slots nor blocks were lost.
    fn settle(&self) {
        let cache = &self.cache;
        let keys = cache.keys(NOW).expect("keys");
        cache.for_each(NOW, |item| check_item(&item.key, &item.value)).expect("dump");
        cache.sweep(NOW);
        assert_eq!(cache.stats().items, keys.len() as u64, "{}", self.line);
        cache.clear(NOW).expect("clear");
        assert_eq!(cache.stats().items, 0);
        for i in 0..cache.definition().items {
            assert!(cache.set(&i.to_le_bytes(), b"v", 0, NOW).is_ok(), "a slot was lost: {i} in {}", self.line);
        }
        cache.clear(NOW).expect("clear");
        let whole = vec![1; cache.definition().largest_value() as usize];
        assert!(cache.set(b"whole", &whole, 0, NOW).is_ok(), "a block was lost in {}", self.line);
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn check_item(name: &[u8], value: &[u8]) {
    if name != b"counter" {
        let number = (0..KEYS).find(|number| key(*number) == name).expect("a key of ours");
        verify(number, value);
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn stress(line: &str) {
    let mut herd = Herd::new(line);
    (0..8).for_each(|_| herd.start("mixed"));
    let until = Instant::now() + Duration::from_secs(from_environment("CACHE_STRESS_SECONDS", 2));
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    herd.wait_for(|board| board.get(Figure::Hits) >= 100);
    herd.finish();
    assert_eq!(herd.cache.stats().repairs, 0, "nobody died");
    if !herd.cache.definition().purge_lru {
        assert_eq!(herd.cache.number(b"counter", NOW), herd.board.get(Figure::Added) as i64);
    }
    eprintln!("{line}: {} operations, {:?}", herd.board.get(Figure::Operations), herd.cache.stats());
    herd.settle();
}

#[test]
fn eight_processes_fixed_blocks() {
    stress("name=s,items=60,blocksize=3000");
}

#[test]
fn eight_processes_bitmap() {
    stress("name=s,items=200,blocksize=100,blocks=2000,bitmap=1");
}

#[test]
fn eight_processes_lru() {
    stress("name=s,items=60,blocksize=3000,purge_lru=1");
}

#[test]
fn eight_processes_lru_bitmap() {
    stress("name=s,items=80,blocksize=100,blocks=500,bitmap=1,purge_lru=1");
}

#[test]
fn increments_of_four_processes_are_exact() {
    let mut herd = Herd::new("name=s,items=5");
    (0..4).for_each(|_| herd.start("count"));
    for mut child in herd.children.drain(..) {
        assert!(child.wait().expect("wait").success());
    }
    assert_eq!(herd.cache.number(b"counter", NOW), 400_000);
}

/// Kills children at random moments while others, and this process, go on.
fn crash(line: &str, share: u64) {
    let mut herd = Herd::new(line);
    let kills = from_environment("CACHE_KILLS", 120).div_ceil(share);
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut slowest = Duration::ZERO;
    let largest = herd.cache.definition().largest_value().min(3000);
    (0..3).for_each(|_| herd.start("mixed"));
    for number in 0..kills {
        herd.wait_for(|board| board.get(Figure::Started) >= number + 3);
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        let victim = random.below(herd.children.len() as u64) as usize;
        let mut child = herd.children.swap_remove(victim);
        child.kill().expect("kill");
        let started = Instant::now();
        (0..50).for_each(|_| operate(&herd.cache, &mut random, &herd.board, largest));
        slowest = slowest.max(started.elapsed() / 50);
        let status = child.wait().expect("wait");
        assert_eq!(status.signal(), Some(9), "a child failed by itself: {status}");
        herd.start("mixed");
    }
    herd.finish();
    let stats = herd.cache.stats();
    eprintln!(
        "{line}: {kills} kills, {} repairs, {} operations, slowest mean of 50: {slowest:?}",
        stats.repairs,
        herd.board.get(Figure::Operations)
    );
    assert!(slowest < Duration::from_millis(from_environment("CACHE_SLOWEST_MS", 500)), "operations hung: {slowest:?}");
    if !herd.cache.definition().purge_lru {
        let (count, added) = (herd.cache.number(b"counter", NOW), herd.board.get(Figure::Added) as i64);
        assert!((added..=added + kills as i64).contains(&count), "{count} is not {added} and at most {kills} more");
    }
    herd.settle();
}

#[test]
fn killed_at_any_moment_fixed_blocks() {
    crash("name=s,items=60,blocksize=3000", 4);
}

#[test]
fn killed_at_any_moment_bitmap() {
    crash("name=s,items=120,blocksize=100,blocks=2000,bitmap=1", 4);
}

#[test]
fn killed_at_any_moment_lru() {
    crash("name=s,items=60,blocksize=3000,purge_lru=1", 4);
}

#[test]
fn killed_at_any_moment_lru_bitmap() {
    crash("name=s,items=80,blocksize=100,blocks=500,bitmap=1,purge_lru=1", 4);
}

/// A process that is stopped in the middle keeps nobody from reading; writers of the same shard are refused in the end, and all is well when it goes on.
#[test]
fn a_stopped_process_does_not_hang_readers() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let mut herd = Herd::new("name=s,items=10,blocksize=3000");
    for number in 0..KEYS.min(8) {
        herd.cache.set(&key(number), &value(number, 1, 2000), 0, NOW).expect("room");
    }
    herd.start("mixed");
    herd.wait_for(|board| board.get(Figure::Operations) >= 100);
    let pid = Pid::from_raw(herd.children[0].id() as i32);
    let impatient = Cache::open(herd.cache.as_fd().try_clone_to_owned().expect("dup"), herd.cache.definition());
    let impatient = impatient.expect("the same cache").with_patience(Duration::from_millis(1));
    let (mut slowest, mut refused) = (Duration::ZERO, 0);
    for round in 0..from_environment("CACHE_STOPS", 60) {
        kill(pid, Signal::SIGSTOP).expect("stop");
        let before = herd.board.get(Figure::Operations);
        std::thread::sleep(Duration::from_millis(2));
        for number in 0..KEYS {
            let started = Instant::now();
            let mut found = Vec::new();
            if herd.cache.get(&key(number), NOW, &mut found).is_some() {
                verify(number, &found);
            }
            slowest = slowest.max(started.elapsed());
        }
        refused += u64::from(impatient.update(&key(round % KEYS), &value(round % KEYS, round, 100), 0, NOW) == Err(Refused::Unavailable));
        kill(pid, Signal::SIGCONT).expect("go on");
        herd.wait_for(|board| board.get(Figure::Operations) > before + 20);
    }
    eprintln!("slowest read beside a stopped process: {slowest:?}; {refused} writes refused");
    assert!(slowest < Duration::from_millis(from_environment("CACHE_SLOWEST_MS", 500)), "{slowest:?}");
    herd.finish();
    assert_eq!(herd.cache.stats().repairs, 0);
    herd.settle();
}
