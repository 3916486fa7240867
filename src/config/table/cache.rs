//! Caches, queues, shared memory: `uwsgi.cache_get` and its kin.

use super::{Spec, flag, int, later, list, long, text};

const CACHE: &str = "calls of uwsgi.cache_* fail: use Redis, or the framework's cache";
const QUEUE: &str = "calls of uwsgi.queue_* fail: use Redis";
const SHARED: &str = "calls of uwsgi.sharedarea_* fail: use multiprocessing.shared_memory";

pub static OPTIONS: &[Spec] = &[
    list("cache2", &[], "NAME=...,ITEMS=...: a cache shared by all workers", later(CACHE)),
    long("cache", &[], "the old way to make one, of so many items", later(CACHE)),
    long("cache-blocksize", &[], "bytes of its values", later(CACHE)),
    text("cache-store", &[], "the file it is kept in", later(CACHE)),
    int("cache-store-sync", &[], "seconds between writes to it", later(CACHE)),
    flag("cache-no-expire", &[], "items never expire", later(CACHE)),
    int("cache-expire-freq", &[], "seconds between sweeps", later(CACHE)),
    flag("cache-report-freed-items", &[], "log what expired", later(CACHE)),
    list("cache-udp-server", &[], "take updates from other hosts", later(CACHE)),
    list("cache-udp-node", &[], "send updates to another host", later(CACHE)),
    text("cache-sync", &[], "begin with another instance's items", later(CACHE)),
    flag("cache-use-last-modified", &[], "remember when an item changed", later(CACHE)),
    list("add-cache-item", &[], "[CACHE ]KEY=VALUE: put an item in", later(CACHE)),
    list("load-file-in-cache", &[], "put a file in", later(CACHE)),
    list("load-file-in-cache-gzip", &[], "put a file in, compressed", later(CACHE)),
    int("queue", &[], "a queue of so many items", later(QUEUE)),
    int("queue-blocksize", &[], "bytes of an item", later(QUEUE)),
    text("queue-store", &[], "the file it is kept in", later(QUEUE)),
    int("queue-store-sync", &[], "seconds between writes to it", later(QUEUE)),
    list("sharedarea", &[], "memory shared by all workers", later(SHARED)).short('A'),
    int("locks", &[], "locks of uwsgi.lock()", later("calls of uwsgi.lock() fail: use multiprocessing.Lock")),
    list("safe-fd", &["fd-safe"], "a descriptor to leave open", later("descriptors of sockets are left open")),
];
