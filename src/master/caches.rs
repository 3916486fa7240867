//! The caches of an instance: made here, before anybody is forked, and kept over reloads; swept, written to disk and replicated into by the master.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use imperator_cache::{Cache, Definition, Refused};
use imperator_protocol::cache::read_entry;
use imperator_protocol::vars::Vars;
use imperator_worker::host::cache::{Caches, Remote, Stream, absolute, now};
use imperator_worker::log::diag::say;
use imperator_worker::settings::{CacheSettings, PreloadWhat, Settings};

/// A file that is loaded into a cache is no larger than this, whatever the cache holds.
const LARGEST_FILE: u64 = 1 << 32;
/// For an instance that the items are copied from.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// The caches of one generation, in the order of its settings; `None` for one that is not on this host.
#[derive(Default)]
pub struct CacheSet {
    list: Vec<Option<Cache>>,
}

impl CacheSet {
    /// Makes those that `before` does not have, and fills these: from the store, from a peer, from files.
    ///
    /// # Errors
    /// What cannot be had: memory, a store, a peer, a file.
    pub fn make(settings: &Settings, before: &[&Self]) -> Result<Self> {
        let mut list = vec![];
        for definition in settings.cache.all()? {
            list.push(match &definition.backend {
                Some(address) => {
                    say(&format!("*** Cache \"{}\" is in Redis at {} ***", definition.name, without_password(address)));
                    None
                }
                None => Some(match kept(&definition, before)? {
                    Some(kept) => {
                        // Files may be others than at the start.
                        preload(&kept, &definition, &settings.cache)?;
                        kept
                    }
                    None => fresh(&definition, &settings.cache)?,
                }),
            });
        }
        let set = Self { list };
        // The rest of what processes need for them: what is wrong shows now and not in each of them.
        Caches::open(settings, set.copies()?)?;
        Ok(set)
    }

    /// Takes over what the life before had for these settings.
    ///
    /// # Errors
    /// A descriptor that does not hold what the settings say.
    pub fn adopt(settings: &Settings, descriptors: Vec<Option<OwnedFd>>) -> Result<Self> {
        let mut list = vec![];
        for (definition, descriptor) in settings.cache.all()?.iter().zip(descriptors) {
            list.push(descriptor.map(|fd| Cache::open(fd, definition)).transpose()?);
        }
        Ok(Self { list })
    }

    pub fn descriptors(&self) -> Vec<Option<i32>> {
        self.list.iter().map(|cache| cache.as_ref().map(|cache| cache.as_fd().as_raw_fd())).collect()
    }

    fn copies(&self) -> std::io::Result<Vec<Option<OwnedFd>>> {
        self.list.iter().map(|cache| cache.as_ref().map(|cache| cache.as_fd().try_clone_to_owned()).transpose()).collect()
    }

    /// Those on this host.
    pub fn iter(&self) -> impl Iterator<Item = &Cache> {
        self.list.iter().flatten()
    }

    pub fn named(&self, name: &str) -> Option<&Cache> {
        self.iter().find(|cache| cache.definition().name == name)
    }
}

/// The same memory, for a definition that may behave otherwise.
fn kept(definition: &Definition, before: &[&CacheSet]) -> Result<Option<Cache>> {
    let Some(cache) = before.iter().flat_map(|set| set.iter()).find(|cache| cache.fits(definition)) else { return Ok(None) };
    Ok(Some(Cache::open(cache.as_fd().try_clone_to_owned()?, definition)?))
}

fn fresh(definition: &Definition, settings: &CacheSettings) -> Result<Cache> {
    let cache = Cache::create(definition)?;
    if definition.store.is_some() {
        if let Some(restored) = cache.restored() {
            let dropped = if restored.dropped > 0 { format!(" ({} were not whole)", restored.dropped) } else { String::new() };
            say(&format!("[uwsgi-cache] restored {} items{dropped}", restored.items));
            if let Some(damage) = &restored.set_aside {
                say(&format!(
                    "cache \"{}\": its store was damaged ({}), and is kept as {}",
                    definition.name,
                    damage.why,
                    damage.kept_as.display()
                ));
            }
        }
    }
    let sizes = cache.sizes();
    say(&format!(
        "*** Cache \"{}\" initialized: {}MB (key: {} bytes, keys: {} bytes, data: {} bytes, bitmap: {} bytes) preallocated ***",
        definition.name,
        sizes.total >> 20,
        sizes.key,
        sizes.keys,
        sizes.data,
        sizes.bitmap
    ));
    if !definition.sync.is_empty() {
        synchronise(&cache, definition)?;
    }
    preload(&cache, definition, settings)?;
    Ok(cache)
}

// -- from another instance

/// From the first that answers.
fn synchronise(cache: &Cache, definition: &Definition) -> Result<()> {
    for address in &definition.sync {
        let remote = Remote { cache: definition.name.as_bytes(), address, timeout: SYNC_TIMEOUT };
        match remote.dump() {
            Ok((head, stream)) => {
                let items = copy(cache, definition, &head, stream)
                    .with_context(|| format!("cache \"{}\": sync with {address}", definition.name))?;
                say(&format!("[cache-sync] got {items} items of \"{}\" from {address}", definition.name));
                return Ok(());
            }
            Err(error) => say(&format!("[cache-sync] \"{}\": {address}: {error}", definition.name)),
        }
    }
    bail!("cache \"{}\": nobody to synchronise with answers: {}", definition.name, definition.sync.join(", "))
}

fn copy(cache: &Cache, definition: &Definition, head: &[u8], mut stream: Stream) -> Result<u64> {
    let head = Vars::parse(head).context("its answer makes no sense")?;
    for (name, own) in [("items", definition.items), ("blocksize", definition.blocksize)] {
        let theirs = String::from_utf8_lossy(head.get(name.as_bytes()).unwrap_or(b"none"));
        ensure!(theirs == own.to_string(), "{name} is {theirs} there and {own} here: make them the same");
    }
    ensure!(
        head.get(b"format") == Some(b"imperator"),
        "it is a uWSGI, whose memory has another layout: sync needs an Imperator on the other side"
    );
    let (mut buffer, mut items, now) = (vec![], 0, now());
    loop {
        // What is at the start of the buffer: an entry with its value, the end, or a part of these.
        match read_entry(&buffer) {
            Some(None) => return Ok(items),
            Some(Some((entry, length))) => {
                let size = usize::try_from(entry.size)
                    .ok()
                    .filter(|_| entry.size <= definition.largest_value())
                    .context("an item is too large")?;
                let Some(value) = buffer.get(length..length + size) else {
                    more(&mut stream, &mut buffer)?;
                    continue;
                };
                match cache.update(entry.key, value, entry.expires, now) {
                    Ok(_) => items += 1,
                    Err(refused) => say(&format!("[cache-sync] an item is left out: {refused}")),
                }
                buffer.drain(..length + size);
            }
            None => more(&mut stream, &mut buffer)?,
        }
    }
}

fn more(stream: &mut Stream, buffer: &mut Vec<u8>) -> Result<()> {
    let mut chunk = vec![0; 1 << 16];
    let n = stream.read(&mut chunk)?;
    ensure!(n > 0, "it broke off");
    buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
    Ok(())
}

// -- from files and options

fn preload(cache: &Cache, definition: &Definition, settings: &CacheSettings) -> Result<()> {
    let all = settings.all()?;
    for preload in settings.preloads.iter().filter(|preload| preload.is_for(definition, &all)) {
        let stored = match &preload.what {
            PreloadWhat::Item { key, value } => put(cache, key, value.as_bytes()),
            PreloadWhat::File { path, gzip } => {
                let content = content(Path::new(path), *gzip).with_context(|| format!("{} = {path}", preload.what.option()))?;
                put(cache, path, &content)
            }
        };
        if let Err(refused) = stored {
            say(&format!("[cache-error] {}: not stored in \"{}\": {refused}", preload.what.option(), definition.name));
        }
    }
    Ok(())
}

/// A store, or the generation before, may have it already: the configuration's is newer.
fn put(cache: &Cache, key: &str, value: &[u8]) -> Result<(), Refused> {
    let now = now();
    cache.update(key.as_bytes(), value, absolute(0, now), now).map(|_| ())
}

fn content(path: &Path, gzip: bool) -> std::io::Result<Vec<u8>> {
    let mut content = vec![];
    File::open(path)?.take(LARGEST_FILE).read_to_end(&mut content)?;
    if !gzip {
        return Ok(content);
    }
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(&content)?;
    encoder.finish()
}

/// What logs may show of an address.
fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lines: &[&str]) -> Settings {
        let mut settings = Settings::default();
        settings.cache.definitions = lines.iter().map(|line| Definition::parse(line).expect("valid")).collect();
        settings
    }

    #[test]
    fn what_has_the_same_shape_is_kept_and_the_rest_is_new() {
        let first = CacheSet::make(&settings(&["name=a,items=5", "name=b,items=5"]), &[]).expect("made");
        for name in ["a", "b"] {
            put(first.named(name).expect("there"), "k", b"v").expect("stored");
        }
        let second = CacheSet::make(&settings(&["name=b,items=6", "name=a,items=5,ignore_full=1"]), &[&first]).expect("made");
        let has = |name: &str| second.named(name).expect("there").exists(b"k", now());
        assert_eq!((has("a"), has("b")), (true, false));
        put(second.named("a").expect("there"), "new", b"v").expect("stored");
        assert!(first.named("a").expect("there").exists(b"new", now()), "both generations share it");
    }

    #[test]
    fn files_and_items_are_there_from_the_start() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("page");
        std::fs::write(&path, "page").expect("write");
        let path = path.to_string_lossy().into_owned();
        let mut s = settings(&["name=a,items=5", "name=b,items=5"]);
        let file = |gzip| PreloadWhat::File { path: path.clone(), gzip };
        s.cache.preloads = vec![
            imperator_worker::settings::Preload { cache: None, what: file(false) },
            imperator_worker::settings::Preload { cache: Some("b".into()), what: file(true) },
            imperator_worker::settings::Preload { cache: None, what: PreloadWhat::Item { key: "k".into(), value: "v".into() } },
        ];
        let set = CacheSet::make(&s, &[]).expect("made");
        let mut value = vec![];
        let mut get = |name: &str, key: &str| set.named(name).and_then(|c| c.get(key.as_bytes(), now(), &mut value)).map(|_| value.clone());
        assert_eq!((get("a", &path).as_deref(), get("a", "k").as_deref(), get("b", "k")), (Some(&b"page"[..]), Some(&b"v"[..]), None));
        assert_eq!(get("b", &path).map(|v| v[..2].to_vec()), Some(vec![0x1f, 0x8b]));
        std::fs::write(&path, "another page").expect("write");
        let reloaded = CacheSet::make(&s, &[&set]).expect("made");
        let found = reloaded.named("a").and_then(|c| c.get(path.as_bytes(), now(), &mut value)).map(|_| value.clone());
        assert_eq!(found.as_deref(), Some(&b"another page"[..]), "a reload reads files again");
        std::fs::remove_file(&path).expect("remove");
        let error = CacheSet::make(&s, &[]).map(|_| ()).expect_err("no file");
        assert!(format!("{error:#}").starts_with(&format!("load-file-in-cache = {path}")), "{error:#}");
    }

    #[test]
    fn passwords_stay_out_of_the_log() {
        assert_eq!(without_password("redis://u:secret@h:1/0"), "redis://h:1/0");
        assert_eq!(without_password("redis://h:1/0"), "redis://h:1/0");
    }
}
