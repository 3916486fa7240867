//! `cache_*`: the caches of this instance, of others, and in Redis, by name.
//!
//! A name is that of a cache; an empty one is the first; `NAME@ADDRESS` is a cache of another instance. Nothing here is an error to the caller: what cannot be
//! had is a miss, and what cannot be done was not done.

mod figures;
mod network;
mod redis;
mod remote;
mod replicate;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub use figures::CacheRow;
use imperator_cache::{Cache, Definition, Refused, Stored};
pub use imperator_cache::{Math, Target};
use imperator_protocol::cache::{Call, Verb};
pub use network::{Network, NotANetwork};
use nix::time::{ClockId, clock_gettime};
pub use redis::BackendError;
use redis::{Redis, Shape};
pub use remote::{Remote, RemoteError, Reply, Stream};
pub use replicate::{Change, Receiver, Sender, SharedKey};

use super::Host;
use crate::language::Yield;
use crate::log::diag::say;
use crate::settings::Settings;

/// The caches of an instance in their order.
#[derive(Default)]
pub struct Caches {
    list: Vec<Kept>,
    /// For other instances.
    timeout: Duration,
    /// Who may read all of a cache; empty: everybody.
    dump_from: Vec<Network>,
}

/// One cache and its peers.
struct Kept {
    definition: Definition,
    items: Items,
    nodes: Option<Sender>,
    /// When the log was told last that it is full, unix seconds.
    full_said: AtomicU64,
    /// When the master was told last that items expire, unix seconds, and how often it wants to know; `None`: it does not sweep this one.
    expiring_told: AtomicU64,
    sweeps: Option<u64>,
}

enum Items {
    Here(Box<Cache>),
    Redis(Box<Redis>),
}

/// A cache that could not be opened in this process.
#[derive(Debug, thiserror::Error)]
#[error("cache \"{name}\": {reason}")]
pub struct OpenError {
    name: String,
    reason: String,
}

/// Where a name leads.
enum Place<'c> {
    Here(&'c Kept, &'c Cache),
    Redis(&'c Redis),
    Elsewhere(Remote<'c>),
}

/// Unix seconds, to a few milliseconds: a call of the vDSO that reads no counter.
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0))
}

/// Absolute unix seconds of a relative expiry. 0 is never; what is negative has expired already.
pub fn absolute(expires: i64, now: u64) -> u64 {
    if expires == 0 { 0 } else { now.saturating_add_signed(expires).max(1) }
}

impl Caches {
    /// Opens what the master made: a descriptor for each cache of the settings that is not elsewhere, in their order.
    ///
    /// # Errors
    /// A descriptor that does not hold what the settings say.
    pub fn open(settings: &Settings, descriptors: Vec<Option<OwnedFd>>) -> Result<Self, OpenError> {
        let wrong = |name: &str, reason: String| OpenError { name: name.to_owned(), reason };
        let definitions = settings.cache.all().map_err(|e| wrong("", e.to_string()))?;
        let mut descriptors = descriptors.into_iter();
        let mut list = vec![];
        for definition in definitions {
            let descriptor = descriptors.next().flatten();
            let items = match (&definition.backend, descriptor) {
                (Some(address), _) => {
                    Items::Redis(Box::new(Redis::new(&shape(&definition, address)).map_err(|e| wrong(&definition.name, e.to_string()))?))
                }
                (None, Some(fd)) => {
                    Items::Here(Box::new(Cache::open(fd, &definition).map_err(|e| wrong(&definition.name, e.to_string()))?))
                }
                (None, None) => return Err(wrong(&definition.name, "the master left no descriptor".into())),
            };
            let key = settings.cache.udp_key.as_deref().map(SharedKey::new);
            let nodes = (!definition.nodes.is_empty()).then(|| Sender::new(&definition.nodes, key)).transpose();
            let nodes = nodes.map_err(|e| wrong(&definition.name, format!("nodes: {e}")))?;
            let lasting = settings.cache.no_expire || definition.no_expire || definition.lazy_expire;
            let sweeps = (!lasting).then_some(settings.cache.expire_freq.max(1).into());
            list.push(Kept { definition, items, nodes, full_said: AtomicU64::new(0), expiring_told: AtomicU64::new(0), sweeps });
        }
        let timeout = Duration::from_secs(settings.request.socket_timeout.max(1).into());
        let dump_from = settings.cache.dump_from.iter().filter_map(|text| text.parse().ok()).collect();
        Ok(Self { list, timeout, dump_from })
    }

    /// Whether a peer may read all of a cache; `None` is one on a unix socket, whose file says who may connect.
    pub(crate) fn may_dump(&self, peer: Option<std::net::IpAddr>) -> bool {
        self.dump_from.is_empty() || peer.is_none_or(|peer| self.dump_from.iter().any(|network| network.contains(peer)))
    }

    /// The figures of each, as the statistics have them.
    pub fn rows(&self) -> Vec<CacheRow> {
        let row = |kept: &Kept| match &kept.items {
            Items::Here(cache) => CacheRow::of(&kept.definition, &cache.stats()),
            Items::Redis(_) => CacheRow::elsewhere(&kept.definition),
        };
        self.list.iter().map(row).collect()
    }

    fn kept(&self, name: &[u8]) -> Option<&Kept> {
        if name.is_empty() { self.list.first() } else { self.list.iter().find(|kept| kept.definition.name.as_bytes() == name) }
    }

    /// The cache of this process's own memory that has this name, with its definition.
    pub(crate) fn here(&self, name: &[u8]) -> Option<(&Definition, &Cache)> {
        match self.kept(name).map(|kept| (&kept.definition, &kept.items))? {
            (definition, Items::Here(cache)) => Some((definition, cache)),
            (_, Items::Redis(_)) => None,
        }
    }

    /// Bytes of the largest value of the cache of this name.
    pub(crate) fn largest(&self, name: &[u8]) -> Option<u64> {
        self.kept(name).map(|kept| kept.definition.largest_value())
    }

    #[inline]
    fn place<'c>(&'c self, name: &'c [u8]) -> Option<Place<'c>> {
        if let Some(kept) = self.kept(name) {
            return Some(match &kept.items {
                Items::Here(cache) => Place::Here(kept, cache),
                Items::Redis(redis) => Place::Redis(redis),
            });
        }
        Remote::parse(name, self.timeout).map(Place::Elsewhere)
    }

    /// Copies the value into `value`; whether there is one.
    #[inline]
    pub fn fetch(&self, key: &[u8], name: &[u8], value: &mut impl Target, lock: &dyn Yield) -> bool {
        match self.place(name) {
            Some(Place::Here(_, cache)) => cache.get(key, now(), value).is_some(),
            // Its expiry would be a second question.
            Some(Place::Redis(redis)) => outside(lock, || redis.get(key)).is_some_and(|found| fill(value, &found)),
            Some(Place::Elsewhere(_)) => self.get(key, name, value, lock).is_some(),
            None => false,
        }
    }

    /// Copies the value into `value`; when it expires (absolute unix seconds, 0: never), or `None`.
    pub fn get(&self, key: &[u8], name: &[u8], value: &mut impl Target, lock: &dyn Yield) -> Option<u64> {
        match self.place(name)? {
            Place::Here(_, cache) => cache.get(key, now(), value).map(|hit| hit.expires),
            Place::Redis(redis) => {
                let (found, expires) = outside(lock, || redis.get_with_expiry(key, now()))?;
                fill(value, &found).then(|| expires.unwrap_or(0))
            }
            Place::Elsewhere(remote) => {
                let reply = outside(lock, || remote.call(&call(Verb::Get, key), b"").ok())?;
                fill(value, &reply.value).then(|| reply.expires.unwrap_or(0))
            }
        }
    }

    /// `expires`: seconds from now, 0: never. False: it is there already, or it was refused.
    pub fn set(&self, key: &[u8], value: &[u8], expires: i64, name: &[u8], lock: &dyn Yield) -> bool {
        match self.place(name) {
            Some(Place::Here(kept, cache)) => {
                let now = now();
                let until = absolute(expires, now);
                kept.stored(cache.set(key, value, until, now), until, now, |nodes| nodes.set(key, value, until, now))
            }
            Some(Place::Redis(redis)) => done_outside(lock, || redis.set(key, value, expires)),
            Some(Place::Elsewhere(remote)) => done_outside(lock, || remote.call(&Call { expires, ..call(Verb::Set, key) }, value).is_ok()),
            None => false,
        }
    }

    /// Creates or replaces. Without `expires` the item does not expire any more.
    pub fn update(&self, key: &[u8], value: &[u8], expires: i64, name: &[u8], lock: &dyn Yield) -> bool {
        match self.place(name) {
            Some(Place::Here(kept, cache)) => {
                let now = now();
                let until = absolute(expires, now);
                kept.stored(cache.update(key, value, until, now), until, now, |nodes| nodes.set(key, value, until, now))
            }
            Some(Place::Redis(redis)) => done_outside(lock, || redis.update(key, value, expires)),
            Some(Place::Elsewhere(remote)) => {
                done_outside(lock, || remote.call(&Call { expires, ..call(Verb::Update, key) }, value).is_ok())
            }
            None => false,
        }
    }

    pub fn delete(&self, key: &[u8], name: &[u8], lock: &dyn Yield) -> bool {
        match self.place(name) {
            Some(Place::Here(kept, cache)) => {
                let now = now();
                let done = cache.delete(key, now).is_ok();
                if let Some(nodes) = kept.nodes.as_ref().filter(|_| done) {
                    nodes.delete(key, now);
                }
                done
            }
            Some(Place::Redis(redis)) => done_outside(lock, || redis.delete(key)),
            Some(Place::Elsewhere(remote)) => done_outside(lock, || remote.call(&call(Verb::Delete, key), b"").is_ok()),
            None => false,
        }
    }

    pub fn exists(&self, key: &[u8], name: &[u8], lock: &dyn Yield) -> bool {
        match self.place(name) {
            Some(Place::Here(_, cache)) => cache.exists(key, now()),
            Some(Place::Redis(redis)) => done_outside(lock, || redis.exists(key)),
            Some(Place::Elsewhere(remote)) => done_outside(lock, || remote.call(&call(Verb::Exists, key), b"").is_ok()),
            None => false,
        }
    }

    pub fn clear(&self, name: &[u8], lock: &dyn Yield) -> bool {
        match self.place(name) {
            Some(Place::Here(kept, cache)) => {
                let now = now();
                let done = cache.clear(now).is_ok();
                if let Some(nodes) = kept.nodes.as_ref().filter(|_| done) {
                    nodes.clear(now);
                }
                done
            }
            Some(Place::Redis(redis)) => done_outside(lock, || redis.clear()),
            Some(Place::Elsewhere(remote)) => done_outside(lock, || remote.call(&call(Verb::Clear, b""), b"").is_ok()),
            None => false,
        }
    }

    /// Applies the operation to the number (a new one starts from `math_initial`); the result. `expires` is a new item's.
    pub fn math(&self, math: Math, key: &[u8], operand: i64, expires: i64, name: &[u8], lock: &dyn Yield) -> Option<i64> {
        match self.place(name)? {
            Place::Here(kept, cache) => {
                let now = now();
                let until = absolute(expires, now);
                let done = cache.math(key, math, operand, until, now);
                if done.is_ok() {
                    kept.expires(until, now);
                }
                if let (Ok(result), Some(nodes)) = (&done, &kept.nodes) {
                    let until = cache.expiry(key, now).unwrap_or(0);
                    nodes.set(key, &result.to_le_bytes(), until, now);
                }
                done.map_err(|refused| kept.complain(&refused, now)).ok()
            }
            Place::Redis(redis) => outside(lock, || redis.math(math, key, operand, expires)),
            Place::Elsewhere(remote) => {
                let verb = match math {
                    Math::Add => Verb::Increment,
                    Math::Subtract => Verb::Decrement,
                    Math::Multiply => Verb::Multiply,
                    Math::Divide => Verb::Divide,
                };
                let reply = outside(lock, || remote.call(&Call { number: operand, expires, ..call(verb, key) }, b"").ok())?;
                // A peer that knows no arithmetic does not answer this.
                reply.number
            }
        }
    }

    /// 0 if it is absent or not eight bytes long.
    pub fn number(&self, key: &[u8], name: &[u8], lock: &dyn Yield) -> i64 {
        if let Some(Place::Here(_, cache)) = self.place(name) {
            return cache.number(key, now());
        }
        let mut value = vec![];
        if !self.fetch(key, name, &mut value, lock) {
            return 0;
        }
        value.try_into().map_or(0, i64::from_le_bytes)
    }

    /// `None` for an unknown cache, and for one of another instance.
    pub fn keys(&self, name: &[u8], lock: &dyn Yield) -> Option<Vec<Vec<u8>>> {
        match self.place(name)? {
            Place::Here(_, cache) => cache.keys(now()).ok(),
            Place::Redis(redis) => outside(lock, || redis.keys()),
            Place::Elsewhere(_) => None,
        }
    }
}

fn fill(target: &mut impl Target, value: &[u8]) -> bool {
    target.room(value.len()).map(|room| room.copy_from_slice(value)).is_some()
}

impl Kept {
    /// Whether it was stored; peers are told, and the log if there was no room.
    fn stored(&self, done: Result<Stored, Refused>, until: u64, now: u64, tell: impl FnOnce(&Sender)) -> bool {
        match done {
            Ok(_) => {
                if let Some(nodes) = &self.nodes {
                    tell(nodes);
                }
                self.expires(until, now);
                true
            }
            Err(refused) => {
                self.complain(&refused, now);
                false
            }
        }
    }

    /// The master sleeps while no item expires.
    fn expires(&self, until: u64, now: u64) {
        let Some(seconds) = self.sweeps.filter(|_| until != 0) else { return };
        let told = self.expiring_told.load(Relaxed);
        if now.abs_diff(told) >= seconds && self.expiring_told.swap(now, Relaxed) == told {
            // Before the fork there is nobody to tell; the master looks for itself when the instance is up.
            let _ = super::host().map(|host| host.tell_master(&crate::control::FromWorker::ItemsExpire));
        }
    }

    /// Once a second at most.
    fn complain(&self, refused: &Refused, now: u64) {
        let worth = refused.is_full() && !self.definition.ignore_full || matches!(refused, Refused::Unavailable);
        if worth && self.full_said.swap(now, Relaxed) != now {
            let name = &self.definition.name;
            match refused {
                Refused::Unavailable => say(&format!("cache \"{name}\": {refused}")),
                _ => say(&format!("*** DANGER cache \"{name}\" is FULL !!! *** ({refused})")),
            }
        }
    }
}

impl Host {
    /// The caches of this instance.
    #[inline]
    pub fn caches(&self) -> &Caches {
        &self.caches
    }
}

fn shape<'d>(definition: &'d Definition, address: &'d str) -> Shape<'d> {
    Shape {
        name: &definition.name,
        address,
        keysize: usize::try_from(definition.keysize).unwrap_or(usize::MAX),
        largest: definition.largest_value().max(definition.blocksize),
        initial: definition.math_initial,
    }
}

fn call(verb: Verb, key: &[u8]) -> Call<'_> {
    Call { verb, key, cache: b"", size: 0, expires: 0, number: 0 }
}

/// What waits for the network runs with the language's lock released.
fn outside<T>(lock: &dyn Yield, work: impl FnOnce() -> Option<T>) -> Option<T> {
    let (mut work, mut result) = (Some(work), None);
    lock.allow(&mut || result = work.take().and_then(|work| work()));
    result
}

/// As [`outside`], of what was done or not.
fn done_outside(lock: &dyn Yield, work: impl FnOnce() -> bool) -> bool {
    outside(lock, || work().then_some(())).is_some()
}
