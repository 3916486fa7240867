//! What the master does for caches while the instance runs: sweeps, stores to disk, changes from other instances.
//!
//! Nothing ticks: a sweep is due when an item with an expiry was stored (workers say so) and `cache-expire-freq` is over, and again only while there is such an item.

use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use imperator_cache::{Cache, Definition, Refused};
use imperator_sys::process::{self, Fork, monotonic_ms};
use imperator_worker::host::cache::{CacheRow, Change, Receiver, SharedKey, now};
use imperator_worker::log::diag::say;
use imperator_worker::settings::{CacheSettings, Settings};

use super::decide::Ms;
use super::handover;
use super::poll::Source;
use super::running::Master;
use super::services::UDP;

/// How long changes from elsewhere are left unread after a cache did not answer: the loop has more to do than to wait for it.
const PAUSE: Ms = 10_000;

/// One address on which a cache takes changes.
pub struct Peer {
    cache: String,
    address: String,
    receiver: Receiver,
    /// Not read before then.
    resting: Option<Ms>,
}

/// Sockets of the life before: descriptor, cache and address.
pub type KeptPeers = Vec<(i32, String, String)>;

/// When each of these is due.
#[derive(Default)]
pub struct CacheTimers {
    sweep: Option<Ms>,
    /// The last sweep left nothing that expires.
    empty: bool,
    /// By the place of the cache in the settings.
    stores: Vec<(String, u64, Ms)>,
}

impl CacheTimers {
    pub fn next(&self) -> Option<Ms> {
        self.stores.iter().map(|(_, _, at)| *at).chain(self.sweep).min()
    }
}

/// Whether the sweeper looks after a cache.
fn is_swept(definition: &Definition, settings: &CacheSettings) -> bool {
    !settings.no_expire && !definition.no_expire && !definition.lazy_expire
}

fn sweep_every(settings: &CacheSettings) -> Ms {
    Ms::from(settings.expire_freq.max(1)) * 1000
}

/// When the next sweep is due. `until`: milliseconds from now to the earliest expiry of any item, if there is one. `again`: the sweep before left one. A
/// worker tells only every so many seconds, so that one look more is needed after the last item went.
fn next_sweep(settings: &CacheSettings, until: Option<Ms>, again: bool, now: Ms) -> Option<Ms> {
    let every = sweep_every(settings);
    until.map(|until| now + until.max(every)).or_else(|| again.then_some(now + every + 1000))
}

impl Master {
    /// For the generation that serves from now on.
    pub(super) fn set_cache_timers(&mut self, settings: &Settings) {
        let at = monotonic_ms();
        let every = |d: &Definition| d.store.as_ref().map(|_| d.store_sync.unwrap_or(settings.cache.store_sync.into())).filter(|s| *s > 0);
        let all = settings.cache.all().unwrap_or_default();
        let store = |d: &Definition| every(d).map(|seconds| (d.name.clone(), seconds, at.saturating_add(seconds.saturating_mul(1000))));
        self.cache_timers.stores = all.iter().filter_map(store).collect();
        self.cache_timers.sweep = None;
        self.items_expire();
    }

    /// A process has stored an item that expires, or may have.
    pub(super) fn items_expire(&mut self) {
        let Some((_, runtime)) = self.current() else { return };
        let settings = &runtime.settings.cache;
        let swept = runtime.caches.iter().any(|cache| is_swept(cache.definition(), settings) && cache.next_expiry().is_some());
        let due = monotonic_ms() + sweep_every(settings);
        if swept && self.cache_timers.sweep.is_none_or(|at| at > due) {
            self.cache_timers.sweep = Some(due);
            self.cache_timers.empty = false;
        }
    }

    pub(super) fn caches_due(&mut self) {
        let at = monotonic_ms();
        if self.cache_timers.sweep.is_some_and(|due| due <= at) {
            self.sweep(at);
        }
        let mut due = vec![];
        for (name, seconds, next) in &mut self.cache_timers.stores {
            if *next <= at {
                *next = at.saturating_add(seconds.saturating_mul(1000));
                due.push(name.clone());
            }
        }
        due.iter().for_each(|name| self.write_store(name));
        self.wake_peers(at);
    }

    fn sweep(&mut self, at: Ms) {
        self.cache_timers.sweep = None;
        let Some((_, runtime)) = self.current() else { return };
        let (settings, clock) = (&runtime.settings.cache, now());
        let mut earliest: Option<Ms> = None;
        for cache in runtime.caches.iter().filter(|cache| is_swept(cache.definition(), settings)) {
            let removed = cache.sweep(clock);
            if removed > 0 && settings.report_freed {
                say(&format!("freed {removed} items for cache \"{}\"", cache.definition().name));
            }
            let until = cache.next_expiry().map(|expires| expires.saturating_sub(clock).saturating_mul(1000));
            earliest = earliest.into_iter().chain(until).min();
        }
        let again = !self.cache_timers.empty;
        self.cache_timers.sweep = next_sweep(settings, earliest, again, at);
        self.cache_timers.empty = earliest.is_none();
    }

    /// In a process of its own: the disk may take its time.
    fn write_store(&self, name: &str) {
        let Some(cache) = self.current().and_then(|(_, runtime)| runtime.caches.named(name)) else { return };
        match process::fork() {
            Ok(Fork::Parent(_)) => {}
            Ok(Fork::Child) => {
                if let Err(error) = cache.sync() {
                    say(&format!("cache \"{name}\": its store cannot be written: {error}"));
                }
                process::exit_now(0)
            }
            Err(error) => say(&format!("cache \"{name}\": its store is not written now: {error}")),
        }
    }

    // -- changes from other instances

    /// Listens on the addresses of the settings; sockets that are there already stay.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(super) fn open_peers(&mut self, settings: &Settings) -> Result<()> {
        let mut old = std::mem::take(&mut self.peers);
        old.iter().for_each(|peer| self.poll.remove(&peer.receiver));
        let mut kept = std::mem::take(&mut self.kept_peers);
        let key = || settings.cache.udp_key.as_deref().map(SharedKey::new);
        for definition in settings.cache.all()?.iter().filter(|d| d.backend.is_none()) {
            for address in &definition.udp_servers {
                let largest = definition.largest_value();
                let socket = match old.iter().position(|peer| peer.address == *address) {
                    Some(at) => Some(old.swap_remove(at).receiver.as_fd().try_clone_to_owned()?),
                    None => match kept.iter().position(|(_, _, of)| of == address) {
                        Some(at) => Some(handover::take(kept.swap_remove(at).0)?),
                        None => None,
                    },
                };
                let receiver = match socket {
                    Some(socket) => Receiver::adopt(socket, key(), largest),
                    None => Receiver::bind(address, key(), largest),
                };
                let receiver = receiver.with_context(|| format!("cache \"{}\": udp={address}", definition.name))?;
                self.poll.add(&receiver, Source::Service(UDP + self.peers.len() as u32))?;
                self.peers.push(Peer { cache: definition.name.clone(), address: address.clone(), receiver, resting: None });
            }
        }
        // What nobody asks for any more is closed.
        kept.into_iter().for_each(|(fd, _, _)| drop(handover::take(fd)));
        Ok(())
    }

    pub(super) fn kept_peers(&self) -> KeptPeers {
        self.peers.iter().map(|peer| (peer.receiver.as_fd().as_raw_fd(), peer.cache.clone(), peer.address.clone())).collect()
    }

    pub(super) fn hear_peer(&mut self, index: usize) {
        let Some(mut peer) = (index < self.peers.len()).then(|| self.peers.remove(index)) else { return };
        let (clock, mut answers, mut expiring) = (now(), true, false);
        if let Some(cache) = self.current().and_then(|(_, runtime)| runtime.caches.named(&peer.cache)) {
            peer.receiver.on_ready(clock, &mut |change| {
                if answers {
                    answers = apply(cache, change, clock) != Err(Refused::Unavailable);
                    expiring |= matches!(change, Change::Set { expires: 1.., .. });
                }
            });
        }
        if !answers {
            say(&format!("cache \"{}\" does not answer: changes from other instances wait", peer.cache));
            self.poll.remove(&peer.receiver);
            peer.resting = Some(monotonic_ms() + PAUSE);
        }
        self.peers.insert(index, peer);
        if expiring {
            self.items_expire();
        }
    }

    pub(super) fn peers_rest(&self) -> Option<Ms> {
        self.peers.iter().filter_map(|peer| peer.resting).min()
    }

    fn wake_peers(&mut self, at: Ms) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            if peer.resting.is_some_and(|until| until <= at) {
                peer.resting = None;
                let _ = self.poll.add(&peer.receiver, Source::Service(UDP + index as u32));
            }
        }
    }

    // -- statistics

    /// The figures of the generation that serves.
    pub(super) fn cache_rows(&self) -> Vec<CacheRow> {
        let Some((_, runtime)) = self.current() else { return vec![] };
        let all = runtime.settings.cache.all().unwrap_or_default();
        let row = |definition: &Definition| match runtime.caches.named(&definition.name) {
            Some(cache) => CacheRow::of(definition, &cache.stats()),
            None => CacheRow::elsewhere(definition),
        };
        all.iter().map(row).collect()
    }
}

/// What has expired on its way is not stored.
fn apply(cache: &Cache, change: &Change<'_>, now: u64) -> Result<(), Refused> {
    match *change {
        Change::Set { expires, key, .. } if expires > 0 && expires <= now => cache.delete(key, now),
        Change::Set { key, value, expires } => cache.update(key, value, expires, now).map(|_| ()),
        Change::Delete { key } => cache.delete(key, now),
        Change::Clear => cache.clear(now).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_wait_for_the_first_expiry_but_never_come_more_often_than_asked() {
        let settings = CacheSettings { expire_freq: 3, ..CacheSettings::default() };
        assert_eq!((next_sweep(&settings, None, true, 100), next_sweep(&settings, None, false, 100)), (Some(4100), None));
        assert_eq!(next_sweep(&settings, Some(0), false, 100), Some(3100));
        assert_eq!(next_sweep(&settings, Some(60_000), true, 100), Some(60_100));
        assert_eq!(next_sweep(&CacheSettings { expire_freq: 0, ..settings }, Some(0), true, 100), Some(1100));
    }

    #[test]
    fn who_is_swept() {
        let swept = |line: &str, no_expire| {
            let settings = CacheSettings { no_expire, ..CacheSettings::default() };
            is_swept(&Definition::parse(line).expect("valid"), &settings)
        };
        assert!(swept("name=a,items=1", false));
        assert!(!swept("name=a,items=1", true) && !swept("name=a,items=1,lazy=1", false) && !swept("name=a,items=1,no_expire=1", false));
    }

    #[test]
    fn changes_from_elsewhere() {
        let cache = Cache::create(&Definition::parse("name=a,items=5").expect("valid")).expect("made");
        let set = |expires| Change::Set { key: b"k", value: b"v", expires };
        assert_eq!(apply(&cache, &set(0), 100), Ok(()));
        assert!(cache.exists(b"k", 100));
        assert_eq!(apply(&cache, &set(99), 100), Ok(()), "an update that has expired removes what was there");
        assert!(!cache.exists(b"k", 100));
        assert_eq!(apply(&cache, &set(0), 100).and_then(|()| apply(&cache, &Change::Clear, 100)), Ok(()));
        assert_eq!(apply(&cache, &Change::Delete { key: b"k" }, 100), Err(Refused::Absent));
    }
}
