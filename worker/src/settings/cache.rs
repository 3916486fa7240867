//! Caches: what they are, what is in them from the start, who may ask for all of it.

use imperator_cache::{Definition, DefinitionError};
use serde::{Deserialize, Serialize};

/// `cache*`.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct CacheSettings {
    /// `cache2`, in order.
    pub definitions: Vec<Definition>,
    /// `cache`: items of the cache called `default`, with what belongs to it; 0: none.
    pub old: OldCache,
    /// Seconds between sweeps for expired items.
    pub expire_freq: u32,
    pub no_expire: bool,
    pub report_freed: bool,
    /// Seconds between msyncs of stores whose own definition does not say.
    pub store_sync: u32,
    /// What is put in before the workers start.
    pub preloads: Vec<Preload>,
    /// Secret that replication datagrams are signed with.
    pub udp_key: Option<String>,
    /// Seconds for which the file of a path is remembered (`static-cache-paths`); 0: not at all.
    pub static_paths: u32,
    /// The cache for that; `None`: the default one.
    pub static_paths_name: Option<String>,
    /// Addresses and networks that may read a whole cache (sync, keys); empty: everybody who reaches a socket.
    pub dump_from: Vec<String>,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            definitions: vec![],
            old: OldCache::default(),
            expire_freq: 3,
            no_expire: false,
            report_freed: false,
            store_sync: 0,
            preloads: vec![],
            udp_key: None,
            static_paths: 0,
            static_paths_name: None,
            dump_from: vec![],
        }
    }
}

/// The options that belong to `cache = N`.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct OldCache {
    pub items: u64,
    pub blocksize: Option<u64>,
    pub store: Option<String>,
    pub udp_servers: Vec<String>,
    pub udp_nodes: Vec<String>,
    pub sync: Option<String>,
    pub last_modified: bool,
}

/// An item that is there from the start.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Preload {
    /// `None`: into every cache (a file), or the default one (an item).
    pub cache: Option<String>,
    pub what: PreloadWhat,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum PreloadWhat {
    /// Its key is the path as it was written.
    File {
        path: String,
        gzip: bool,
    },
    Item {
        key: String,
        value: String,
    },
}

impl Preload {
    /// Whether it goes into a cache, which is one of `all`.
    pub fn is_for(&self, cache: &Definition, all: &[Definition]) -> bool {
        match (&self.cache, &self.what) {
            (Some(name), _) => *name == cache.name,
            (None, PreloadWhat::File { .. }) => true,
            (None, PreloadWhat::Item { .. }) => all.first().is_some_and(|first| first.name == cache.name),
        }
    }
}

/// Why the caches of a configuration cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CacheSettingsError {
    #[error("cache: {0}")]
    Old(#[from] DefinitionError),
    #[error("there are two caches called \"{0}\": give each a name of its own")]
    Twice(String),
    #[error("{option}: there is no cache called \"{name}\"")]
    Unknown { option: &'static str, name: String },
    #[error("cache \"{name}\": {key} does not go together with backend: its items are not in this instance")]
    Backend { name: String, key: &'static str },
    #[error("{0} needs a cache: add `cache2 = name=NAME,items=N`")]
    None(&'static str),
}

impl CacheSettingsError {
    /// The option to look at.
    pub fn option(&self) -> &'static str {
        match self {
            Self::Old(_) => "cache",
            Self::Twice(_) | Self::Backend { .. } => "cache2",
            Self::Unknown { option, .. } | Self::None(option) => option,
        }
    }
}

impl CacheSettings {
    /// Every cache: the old-style one first, then those of `cache2`. The first is the default one.
    ///
    /// # Errors
    /// Two of one name, an old-style one that cannot be, or an option that names one that is not there.
    pub fn all(&self) -> Result<Vec<Definition>, CacheSettingsError> {
        let mut all = Vec::with_capacity(self.definitions.len() + 1);
        all.extend(self.old.definition()?);
        all.extend(self.definitions.iter().cloned());
        if let Some((_, twice)) = all.iter().enumerate().find(|(i, d)| all[..*i].iter().any(|other| other.name == d.name)) {
            return Err(CacheSettingsError::Twice(twice.name.clone()));
        }
        for definition in all.iter().filter(|d| d.backend.is_some()) {
            let keys = [
                ("store", definition.store.is_some()),
                ("udp", !definition.udp_servers.is_empty()),
                ("nodes", !definition.nodes.is_empty()),
                ("sync", !definition.sync.is_empty()),
                ("preloading", self.preloads.iter().any(|preload| preload.is_for(definition, &all))),
            ];
            if let Some((key, _)) = keys.into_iter().find(|(_, given)| *given) {
                return Err(CacheSettingsError::Backend { name: definition.name.clone(), key });
            }
        }
        let used = self.preloads.iter().map(|p| (p.what.option(), p.cache.as_ref()));
        for (option, name) in used.chain((self.static_paths > 0).then_some(("static-cache-paths", self.static_paths_name.as_ref()))) {
            match name {
                _ if all.is_empty() => return Err(CacheSettingsError::None(option)),
                Some(name) if !all.iter().any(|d| d.name == *name) => {
                    return Err(CacheSettingsError::Unknown { option, name: name.clone() });
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// Whether there is any.
    pub fn is_used(&self) -> bool {
        self.old.items > 0 || !self.definitions.is_empty()
    }
}

impl OldCache {
    fn definition(&self) -> Result<Option<Definition>, DefinitionError> {
        if self.items == 0 {
            return Ok(None);
        }
        let mut definition = Definition::old_style(self.items);
        definition.blocksize = self.blocksize.unwrap_or(definition.blocksize);
        definition.store = self.store.as_ref().map(Into::into);
        definition.udp_servers.clone_from(&self.udp_servers);
        definition.nodes.clone_from(&self.udp_nodes);
        definition.sync = self.sync.iter().cloned().collect();
        definition.lastmod = self.last_modified;
        definition.checked().map(Some)
    }
}

impl PreloadWhat {
    /// The option that it came from.
    pub fn option(&self) -> &'static str {
        match self {
            Self::File { gzip: false, .. } => "load-file-in-cache",
            Self::File { gzip: true, .. } => "load-file-in-cache-gzip",
            Self::Item { .. } => "add-cache-item",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> CacheSettings {
        let definitions = names.iter().map(|name| Definition::parse(&format!("name={name},items=3")).expect("valid")).collect();
        CacheSettings { definitions, ..CacheSettings::default() }
    }

    #[test]
    fn the_old_style_cache_comes_first() {
        let mut settings = named(&["a"]);
        settings.old = OldCache { items: 20, blocksize: Some(64), sync: Some("h:1".into()), ..OldCache::default() };
        let all = settings.all().expect("valid");
        assert_eq!(all.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["default", "a"]);
        assert_eq!((all[0].items, all[0].blocksize, all[0].sync.len()), (20, 64, 1));
        settings.old.blocksize = Some(0);
        assert_eq!(settings.all().expect_err("blocksize").option(), "cache");
    }

    #[test]
    fn names_are_given_once_and_used_if_they_are_there() {
        assert_eq!(named(&["a", "b", "a"]).all(), Err(CacheSettingsError::Twice("a".into())));
        let mut settings = named(&["a"]);
        settings.preloads.push(Preload { cache: Some("b".into()), what: PreloadWhat::File { path: "x".into(), gzip: false } });
        assert_eq!(settings.all().expect_err("b").option(), "load-file-in-cache");
        settings = named(&["a,backend=redis://h,nodes=h:1"]);
        assert_eq!(
            settings.all().expect_err("nodes").to_string(),
            "cache \"a\": nodes does not go together with backend: its items are not in this instance"
        );
        let item = || PreloadWhat::Item { key: "k".into(), value: "v".into() };
        let file = || PreloadWhat::File { path: "x".into(), gzip: false };
        for (names, what, refused) in [
            (["a", "r,backend=redis://h"], item(), false),
            (["r,backend=redis://h", "a"], item(), true),
            (["a", "r,backend=redis://h"], file(), true),
        ] {
            settings = named(&names);
            settings.preloads.push(Preload { cache: None, what });
            assert_eq!(settings.all().is_err(), refused, "{settings:?}");
        }
        settings = CacheSettings { static_paths: 3, ..CacheSettings::default() };
        assert_eq!(settings.all(), Err(CacheSettingsError::None("static-cache-paths")));
        settings = CacheSettings { static_paths: 3, ..named(&["a"]) };
        assert!(settings.all().is_ok());
    }
}
