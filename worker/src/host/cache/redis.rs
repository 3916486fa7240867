//! A cache whose items are in Redis or Valkey (`backend = redis://...`): the same calls, shared by hosts.
//!
//! An item is a string under `NAME:KEY` with Redis' own expiry; a number is its eight bytes, as in a cache of our own, so that every call means the same on both.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, FromRedisValue, RedisError, cmd};

use crate::log::diag::say;
use imperator_cache::Math;

/// How long a call may take if the address does not say (`?timeout=MILLISECONDS`).
const TIMEOUT: Duration = Duration::from_secs(2);
/// After a failure calls fail at once for so long: a Redis that is away must not cost every request its timeout.
const PAUSE: Duration = Duration::from_secs(1);
/// Keys that one SCAN looks at.
const BATCH: usize = 1000;

/// Adds eight bytes to eight bytes, atomically and exactly: Lua's own numbers have no 64 bits. KEYS 1: the item; ARGV: operand, value of a
/// new item, milliseconds of its expiry. Answers nothing if the item is no number.
const ADD: &str = "\
local old = redis.call('GET', KEYS[1])
local base = old or ARGV[2]
if #base ~= 8 then return false end
local carry, out = 0, {}
for i = 1, 8 do
  local sum = string.byte(base, i) + string.byte(ARGV[1], i) + carry
  out[i] = string.char(sum % 256)
  carry = math.floor(sum / 256)
end
local new = table.concat(out)
if old then redis.call('SET', KEYS[1], new, 'KEEPTTL')
elseif ARGV[3] == '0' then redis.call('SET', KEYS[1], new)
else redis.call('SET', KEYS[1], new, 'PX', ARGV[3]) end
return new";

/// Replaces the item if it is still what it was. KEYS 1: the item; ARGV: what it was (empty: absent), what it becomes, milliseconds of a new item's expiry.
const SWAP: &str = "\
local old = redis.call('GET', KEYS[1])
if (old or '') ~= ARGV[1] then return 0 end
if old then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
elseif ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1";

/// One such cache. Connections are one a thread, made when they are needed first.
pub struct Redis {
    name: String,
    client: Client,
    timeout: Duration,
    keysize: usize,
    largest: u64,
    initial: i64,
    /// Tells its connections from those of other caches.
    id: u64,
    away: AtomicBool,
}

/// Why an address is none.
#[derive(Debug, thiserror::Error)]
#[error("backend = {address}: {reason}")]
pub struct BackendError {
    address: String,
    reason: String,
}

/// What a thread has for one cache.
enum Line {
    Open {
        connection: Box<Connection>,
        process: u32,
    },
    /// Not tried again before then.
    Down(Instant),
}

thread_local! {
    static LINES: RefCell<HashMap<u64, Line>> = RefCell::default();
}

static IDS: AtomicU64 = AtomicU64::new(0);

/// What of a cache's definition matters here.
pub struct Shape<'d> {
    pub name: &'d str,
    pub address: &'d str,
    pub keysize: usize,
    /// Bytes of the largest value.
    pub largest: u64,
    pub initial: i64,
}

impl Redis {
    /// # Errors
    /// An address that is none. (Whether somebody is there shows at the first call.)
    pub fn new(shape: &Shape<'_>) -> Result<Self, BackendError> {
        let wrong = |reason: String| BackendError { address: shape.address.to_owned(), reason };
        let (address, timeout) = split_timeout(shape.address).map_err(wrong)?;
        let client = Client::open(address).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            name: shape.name.to_owned(),
            client,
            timeout,
            keysize: shape.keysize,
            largest: shape.largest,
            initial: shape.initial,
            id: IDS.fetch_add(1, Relaxed),
            away: AtomicBool::new(false),
        })
    }

    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.ask::<Option<Vec<u8>>>(cmd("GET").arg(self.item(key)))?
    }

    /// The value and when it expires (absolute unix seconds, `now` being one).
    pub fn get_with_expiry(&self, key: &[u8], now: u64) -> Option<(Vec<u8>, Option<u64>)> {
        let value = self.get(key)?;
        let left: i64 = self.ask(cmd("PTTL").arg(self.item(key)))?;
        Some((value, u64::try_from(left).ok().map(|left| now.saturating_add(left.div_ceil(1000)))))
    }

    /// `expires`: seconds from now, 0: never. False if it is there already, or refused.
    pub fn set(&self, key: &[u8], value: &[u8], expires: i64) -> bool {
        self.store(key, value, expires, true)
    }

    pub fn update(&self, key: &[u8], value: &[u8], expires: i64) -> bool {
        self.store(key, value, expires, false)
    }

    fn store(&self, key: &[u8], value: &[u8], expires: i64, only_new: bool) -> bool {
        if !self.fits(key) || value.is_empty() || value.len() as u64 > self.largest {
            return false;
        }
        if expires < 0 {
            // Expired as soon as it is there.
            return if only_new { !self.exists(key) } else { self.ask::<u64>(cmd("UNLINK").arg(self.item(key))).is_some() };
        }
        let mut set = cmd("SET");
        set.arg(self.item(key)).arg(value);
        if expires > 0 {
            set.arg("PX").arg(expires.saturating_mul(1000));
        }
        if only_new {
            set.arg("NX");
        }
        self.ask::<Option<String>>(&set).flatten().is_some()
    }

    pub fn delete(&self, key: &[u8]) -> bool {
        self.ask::<u64>(cmd("UNLINK").arg(self.item(key))).is_some_and(|n| n > 0)
    }

    pub fn exists(&self, key: &[u8]) -> bool {
        self.ask::<u64>(cmd("EXISTS").arg(self.item(key))).is_some_and(|n| n > 0)
    }

    /// Removes this cache's items and nobody else's.
    pub fn clear(&self) -> bool {
        self.scan(&mut |keys| {
            let mut unlink = cmd("UNLINK");
            unlink.arg(keys);
            self.ask::<u64>(&unlink).is_some()
        })
    }

    pub fn keys(&self) -> Option<Vec<Vec<u8>>> {
        let (mut all, prefix) = (vec![], self.name.len() + 1);
        let done = self.scan(&mut |keys| {
            all.extend(keys.iter().filter_map(|key| key.get(prefix..)).map(<[u8]>::to_vec));
            true
        });
        // A SCAN may name a key twice.
        all.sort_unstable();
        all.dedup();
        done.then_some(all)
    }

    /// Applies the operation; the result, or `None` if the item is no number or Redis is away. The expiry is a new item's only.
    pub fn math(&self, math: Math, key: &[u8], operand: i64, expires: i64) -> Option<i64> {
        if !self.fits(key) {
            return None;
        }
        // What has expired already lives for as short a time as Redis can say.
        let life = if expires < 0 { 1 } else { expires.saturating_mul(1000) };
        let operand = match math {
            Math::Add => operand,
            Math::Subtract => operand.wrapping_neg(),
            Math::Multiply | Math::Divide => return self.swap(math, key, operand, life),
        };
        let mut add = cmd("EVAL");
        add.arg(ADD).arg(1).arg(self.item(key));
        add.arg(&operand.to_le_bytes()[..]).arg(&self.initial.to_le_bytes()[..]).arg(life);
        number(&self.ask::<Option<Vec<u8>>>(&add)??)
    }

    /// Reads, computes, and replaces if nobody else did meanwhile.
    fn swap(&self, math: Math, key: &[u8], operand: i64, life: i64) -> Option<i64> {
        loop {
            let old = self.ask::<Option<Vec<u8>>>(cmd("GET").arg(self.item(key)))?;
            let new = math.apply(old.as_deref().map_or(Some(self.initial), number)?, operand);
            let mut swap = cmd("EVAL");
            swap.arg(SWAP).arg(1).arg(self.item(key));
            swap.arg(old.as_deref().unwrap_or_default()).arg(&new.to_le_bytes()[..]).arg(life);
            if self.ask::<u64>(&swap)? == 1 {
                return Some(new);
            }
        }
    }

    /// Tells each batch of full keys until one says stop; whether all went well.
    fn scan(&self, each: &mut dyn FnMut(&[Vec<u8>]) -> bool) -> bool {
        let pattern = format!("{}:*", escaped(&self.name));
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(BATCH);
            let Some((next, keys)) = self.ask::<(u64, Vec<Vec<u8>>)>(&scan) else { return false };
            if !keys.is_empty() && !each(&keys) {
                return false;
            }
            if next == 0 {
                return true;
            }
            cursor = next;
        }
    }

    fn item(&self, key: &[u8]) -> Vec<u8> {
        [self.name.as_bytes(), b":", key].concat()
    }

    fn fits(&self, key: &[u8]) -> bool {
        !key.is_empty() && key.len() <= self.keysize
    }

    /// One command on this thread's connection; `None` if Redis is away or refuses it, which the log has once.
    fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        LINES.with(|lines| {
            let mut lines = lines.try_borrow_mut().ok()?;
            let mut line = lines.remove(&self.id);
            for last in [false, true] {
                let (mut connection, fresh) = match self.line(line.take()) {
                    Ok(found) => found,
                    Err(down) => {
                        lines.insert(self.id, down);
                        return None;
                    }
                };
                match command.query::<T>(&mut connection) {
                    Ok(answer) => {
                        self.back();
                        lines.insert(self.id, Line::Open { connection, process: std::process::id() });
                        return Some(answer);
                    }
                    // A connection that has been idle may have been closed by Redis; a new one tells.
                    Err(error) if error.is_io_error() && !error.is_timeout() && !fresh && !last => {}
                    Err(error) => {
                        lines.insert(self.id, self.failed(&error, connection));
                        return None;
                    }
                }
            }
            None
        })
    }

    /// A connection, and whether it was made just now.
    fn line(&self, line: Option<Line>) -> Result<(Box<Connection>, bool), Line> {
        match line {
            Some(Line::Down(until)) if Instant::now() < until => Err(Line::Down(until)),
            // One that was made before a fork is the parent's.
            Some(Line::Open { connection, process }) if process == std::process::id() => Ok((connection, false)),
            other => {
                if let Some(Line::Open { connection, .. }) = other {
                    drop(connection);
                }
                self.connect().map(|connection| (Box::new(connection), true)).map_err(|error| self.down(&error))
            }
        }
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(self.timeout)?;
        connection.set_read_timeout(Some(self.timeout))?;
        connection.set_write_timeout(Some(self.timeout))?;
        Ok(connection)
    }

    fn failed(&self, error: &RedisError, connection: Box<Connection>) -> Line {
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            return self.down(error);
        }
        say(&format!("cache {}: Redis refuses a command: {error}", self.name));
        Line::Open { connection, process: std::process::id() }
    }

    fn down(&self, error: &RedisError) -> Line {
        if !self.away.swap(true, Relaxed) {
            let address = &self.client.get_connection_info().addr;
            say(&format!("cache {}: Redis at {address} is away ({error}): gets miss and sets are refused until it is back", self.name));
        }
        Line::Down(Instant::now() + PAUSE)
    }

    fn back(&self) {
        if self.away.load(Relaxed) && self.away.swap(false, Relaxed) {
            say(&format!("cache {}: Redis is back", self.name));
        }
    }
}

/// Takes `timeout=N` out of the address.
fn split_timeout(address: &str) -> Result<(String, Duration), String> {
    let Some((path, query)) = address.split_once('?') else { return Ok((address.to_owned(), TIMEOUT)) };
    let (mut timeout, mut rest) = (TIMEOUT, vec![]);
    for part in query.split('&') {
        match part.strip_prefix("timeout=") {
            Some(ms) => {
                let ms = ms.parse().ok().filter(|ms| *ms > 0).ok_or_else(|| format!("timeout={ms}: milliseconds are expected"))?;
                timeout = Duration::from_millis(ms);
            }
            None => rest.push(part),
        }
    }
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok((format!("{path}{query}"), timeout))
}

/// A name in which no character is a wildcard.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^').then_some('\\').into_iter().chain([c])).collect()
}

/// What is eight bytes long is a number.
fn number(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_taken_out_of_addresses() {
        let ms = |address| split_timeout(address).map(|(rest, timeout)| (rest, timeout.as_millis()));
        assert_eq!(ms("redis://h:1/2"), Ok(("redis://h:1/2".into(), 2000)));
        assert_eq!(ms("redis://h/2?timeout=300"), Ok(("redis://h/2".into(), 300)));
        assert_eq!(ms("redis+unix:///r.sock?db=1&timeout=5"), Ok(("redis+unix:///r.sock?db=1".into(), 5)));
        assert!(ms("redis://h/?timeout=0").is_err() && ms("redis://h/?timeout=soon").is_err());
    }

    #[test]
    fn wildcards_of_a_name_mean_themselves() {
        assert_eq!(escaped("a*b?[c]\\"), "a\\*b\\?\\[c\\]\\\\");
        assert_eq!((number(&7_i64.to_le_bytes()), number(b"7")), (Some(7), None));
    }

    #[test]
    fn nobody_there_is_a_miss_and_an_address_that_is_none_an_error() {
        let shape = |address| Shape { name: "x", address, keysize: 10, largest: 10, initial: 0 };
        let away = Redis::new(&shape("redis://127.0.0.1:1/0?timeout=200")).expect("an address");
        assert_eq!((away.get(b"k"), away.set(b"k", b"v", 0), away.keys(), away.math(Math::Add, b"k", 1, 0)), (None, false, None, None));
        assert!(Redis::new(&shape("gopher://x")).is_err());
    }
}
