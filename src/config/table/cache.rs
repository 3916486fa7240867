//! Caches, queues, shared memory: `uwsgi.cache_get` and its kin.

use imperator_cache::Definition;
use imperator_worker::host::cache::Network;
use imperator_worker::settings::{Preload, PreloadWhat, Settings};

use super::{Row, Status, add_text, flag, int, later, list, long, set_flag, set_number, set_some_number, set_text, text};
use crate::config::values;

const QUEUE: &str = "calls of uwsgi.queue_* fail: use Redis";
const SHARED: &str = "calls of uwsgi.sharedarea_* fail: use multiprocessing.shared_memory";

pub const OPTIONS: &[Row] = &[
    list(
        "cache2",
        &[],
        "name=NAME,items=N[,KEY=VALUE...]: a cache shared by all workers (docs/cache.md)",
        Status::Done(|settings, value| {
            let definition = Definition::parse(value.unwrap_or_default()).map_err(|error| error.to_string())?;
            settings.cache.definitions.push(definition);
            Ok(())
        }),
    ),
    long("cache", &[], "the old way to make one: items of the cache `default`", set_number!(cache.old.items)),
    long("cache-blocksize", &[], "bytes of its largest value (65536)", set_some_number!(cache.old.blocksize)),
    text("cache-store", &[], "the file it is kept in", set_text!(cache.old.store)),
    int("cache-store-sync", &[], "seconds between writes of cache stores to disk; 0: when the kernel likes", set_number!(cache.store_sync))
        .with_master(),
    flag("cache-no-expire", &[], "no sweeps: expired items are gone for apps, but keep their place", set_flag!(cache.no_expire)),
    int("cache-expire-freq", &[], "seconds between sweeps for expired items (3)", set_number!(cache.expire_freq)).with_master(),
    flag("cache-report-freed-items", &[], "log how many items a sweep removed", set_flag!(cache.report_freed)).with_master(),
    list("cache-udp-server", &[], "HOST:PORT on which it takes changes from other instances", add_text!(cache.old.udp_servers))
        .with_master(),
    list("cache-udp-node", &[], "HOST:PORT of an instance to tell its changes", add_text!(cache.old.udp_nodes)),
    text("cache-udp-key", &[], "secret by which instances that replicate caches know each other", set_text!(cache.udp_key)),
    text("cache-sync", &[], "the socket of an instance whose items it begins with", set_text!(cache.old.sync)),
    list("cache-dump-from", &[], "ADDRESS or NETWORK that may read whole caches over TCP (all, if none is named)", Status::Done(dump_from)),
    flag("cache-use-last-modified", &[], "statistics say when it last changed", set_flag!(cache.old.last_modified)),
    list("add-cache-item", &[], "[CACHE ]KEY=VALUE: put an item in at the start", Status::Done(add_item)),
    list(
        "load-file-in-cache",
        &[],
        "[CACHE ]PATH: put a file in at the start, under its path",
        Status::Done(|settings, value| load_file(settings, value, false)),
    ),
    list("load-file-in-cache-gzip", &[], "the same, compressed", Status::Done(|settings, value| load_file(settings, value, true))),
    int("queue", &[], "a queue of so many items", later(QUEUE)),
    int("queue-blocksize", &[], "bytes of an item", later(QUEUE)),
    text("queue-store", &[], "the file it is kept in", later(QUEUE)),
    int("queue-store-sync", &[], "seconds between writes to it", later(QUEUE)),
    list("sharedarea", &[], "memory shared by all workers", later(SHARED)).short('A'),
    int("locks", &[], "locks of uwsgi.lock()", later("calls of uwsgi.lock() fail: use multiprocessing.Lock")),
    list("safe-fd", &["fd-safe"], "a descriptor to leave open", later("descriptors of sockets are left open")),
];

fn add_item(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let text = values::text(value)?.unwrap_or_default();
    let (cache, item) = match text.split_once(' ') {
        // A blank in the value is none behind a cache's name.
        Some((cache, item)) if !cache.contains('=') => (Some(cache.to_owned()), item),
        _ => (None, text.as_str()),
    };
    let (key, value) = item.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty()).ok_or("KEY=VALUE is expected")?;
    let what = PreloadWhat::Item { key: key.to_owned(), value: value.to_owned() };
    settings.cache.preloads.push(Preload { cache, what });
    Ok(())
}

fn load_file(settings: &mut Settings, value: Option<&str>, gzip: bool) -> Result<(), String> {
    let text = values::text(value)?.ok_or("needs a path")?;
    let (cache, path) = match text.split_once(' ') {
        Some((cache, path)) => (Some(cache.to_owned()), path),
        None => (None, text.as_str()),
    };
    settings.cache.preloads.push(Preload { cache, what: PreloadWhat::File { path: path.to_owned(), gzip } });
    Ok(())
}

fn dump_from(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let text = values::text(value)?.unwrap_or_default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        part.parse::<Network>().map_err(|error| error.to_string())?;
        settings.cache.dump_from.push(part.to_owned());
    }
    Ok(())
}
