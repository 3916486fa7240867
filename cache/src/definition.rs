//! What a cache is made of: one line of `cache2`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A cache as configured. Sizes are in bytes, times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    pub name: String,
    /// Items that it holds, at least 1 (0 only with a `backend`).
    pub items: u64,
    pub blocksize: u64,
    /// At least `items`.
    pub blocks: u64,
    /// A value takes as many consecutive blocks as it needs; else exactly one.
    pub bitmap: bool,
    /// The longest key, 1 to 65534.
    pub keysize: u64,
    /// Shown in the statistics, like `hashsize`. Keys are always spread by a hash of our own, seeded in each cache, over as many buckets as the items need: a client
    /// who chooses the keys cannot make lookups slow.
    pub hash: HashKind,
    pub hashsize: u64,
    /// The file that is the cache's memory.
    pub store: Option<PathBuf>,
    /// Seconds between writes of the store to disk, 0: when the kernel likes. `None`: what `cache-store-sync` says.
    pub store_sync: Option<u64>,
    /// Replace a store file of another shape instead of refusing it.
    pub store_delete: bool,
    /// Keep the time of the last change.
    pub lastmod: bool,
    /// What a number starts from before the operation.
    pub math_initial: i64,
    /// When full, give up the item used longest ago.
    pub purge_lru: bool,
    /// No sweeper: expired items go when they are asked for.
    pub lazy_expire: bool,
    /// No sweeper.
    pub no_expire: bool,
    /// Do not log that the cache is full.
    pub ignore_full: bool,
    /// When full, remove expired items, at most once in so many seconds; 0: never.
    pub sweep_on_full: u64,
    /// When full, empty the cache.
    pub clear_on_full: bool,
    /// Addresses to take replicated changes on.
    pub udp_servers: Vec<String>,
    /// Addresses to send changes to.
    pub nodes: Vec<String>,
    /// Addresses to copy the whole cache from at the start.
    pub sync: Vec<String>,
    /// A server elsewhere that holds the items (`redis://host:port/db`).
    pub backend: Option<String>,
}

impl Default for Definition {
    fn default() -> Self {
        Self {
            name: String::new(),
            items: 0,
            blocksize: 65536,
            blocks: 0,
            bitmap: false,
            keysize: 2048,
            hash: HashKind::Djb33x,
            hashsize: 65536,
            store: None,
            store_sync: None,
            store_delete: false,
            lastmod: false,
            math_initial: 0,
            purge_lru: false,
            lazy_expire: false,
            no_expire: false,
            ignore_full: false,
            sweep_on_full: 0,
            clear_on_full: false,
            udp_servers: Vec::new(),
            nodes: Vec::new(),
            sync: Vec::new(),
            backend: None,
        }
    }
}

/// uWSGI's hash functions, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum HashKind {
    #[default]
    Djb33x,
    Murmur2,
    Rand,
    Rr,
}

impl HashKind {
    /// As the statistics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Djb33x => "djb33x",
            Self::Murmur2 => "murmur2",
            Self::Rand => "rand",
            Self::Rr => "rr",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "djb33x" => Self::Djb33x,
            "murmur2" => Self::Murmur2,
            "rand" | "random" => Self::Rand,
            "rr" => Self::Rr,
            _ => return None,
        })
    }
}

/// Why a line makes no cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("a cache needs a name (name=...)")]
    NoName,
    #[error("cache \"{name}\" needs a number of items (items=...), at least 1")]
    NoItems { name: String },
    #[error("cache \"{name}\": blocks={blocks} is less than items={items}")]
    FewBlocks { name: String, blocks: u64, items: u64 },
    #[error("cache \"{name}\" would take more memory than can be addressed: lower items, blocks, blocksize or keysize")]
    TooBig { name: String },
    #[error("unknown key \"{key}\" of a cache{}", nearest.map(|nearest| format!(": did you mean \"{nearest}\"?")).unwrap_or_default())]
    UnknownKey { key: String, nearest: Option<&'static str> },
    #[error("{key} needs a value ({key}=...)")]
    NoValue { key: String },
    #[error("{key}={value} is no whole number")]
    NotANumber { key: String, value: String },
    #[error("{key}={value} is out of range: {range}")]
    OutOfRange { key: String, value: u64, range: &'static str },
    #[error("hash={value} is unknown: djb33x, murmur2, rand or rr")]
    UnknownHash { value: String },
    #[error("the quote in {text} has no end")]
    Quote { text: String },
}

/// Every name that `parse` knows, aliases included.
const KEYS: &[&str] = &[
    "name",
    "items",
    "maxitems",
    "max_items",
    "blocksize",
    "blocks",
    "bitmap",
    "keysize",
    "key_size",
    "hash",
    "hashsize",
    "hash_size",
    "store",
    "store_sync",
    "storesync",
    "store_delete",
    "storedelete",
    "lastmod",
    "math_initial",
    "purge_lru",
    "lru",
    "lazy_expire",
    "lazy",
    "no_expire",
    "ignore_full",
    "sweep_on_full",
    "clear_on_full",
    "udp",
    "udp_servers",
    "udp_server",
    "udpservers",
    "udpserver",
    "node",
    "nodes",
    "sync",
    "backend",
];

/// The most items or blocks: indexes are 32 bits wide, with room for what a cache needs on top.
const INDEX_LIMIT: u64 = 1 << 31;

impl Definition {
    /// Reads `name=NAME,items=N,...`. A value with a comma in it is put in double quotes. A flag is off for 0, false, no and off, and on for anything else, or for nothing.
    pub fn parse(line: &str) -> Result<Self, DefinitionError> {
        let mut definition = Self::default();
        for part in parts(line)? {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.trim())),
                None => (part.trim(), None),
            };
            if !(key.is_empty() && value.is_none()) {
                definition.set(key, value)?;
            }
        }
        definition.checked()
    }

    /// What `cache = ITEMS` makes: a cache called `default`. The older options that belong to it are set by whoever reads them, then [`Definition::checked`].
    pub fn old_style(items: u64) -> Self {
        Self { name: "default".into(), items, blocks: items, ..Self::default() }
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), DefinitionError> {
        let text = || value.filter(|value| !value.is_empty()).ok_or_else(|| DefinitionError::NoValue { key: key.into() });
        let number = || parse_number(key, text()?);
        let positive = || at_least_one(key, number()?);
        let flag = || value.is_none_or(is_on);
        let list = || Ok(split_list(text()?));
        match key {
            "name" => self.name = text()?.into(),
            "items" | "maxitems" | "max_items" => self.items = positive()?,
            "blocksize" => self.blocksize = positive()?,
            "blocks" => self.blocks = positive()?,
            "bitmap" => self.bitmap = flag(),
            "keysize" | "key_size" => self.keysize = number()?,
            "hash" => {
                self.hash = HashKind::parse(text()?).ok_or_else(|| DefinitionError::UnknownHash { value: value.unwrap_or("").into() })?
            }
            "hashsize" | "hash_size" => self.hashsize = positive()?,
            "store" => self.store = Some(text()?.into()),
            "store_sync" | "storesync" => self.store_sync = Some(number()?),
            "store_delete" | "storedelete" => self.store_delete = flag(),
            "lastmod" => self.lastmod = flag(),
            "math_initial" => self.math_initial = parse_signed(key, text()?)?,
            "purge_lru" | "lru" => self.purge_lru = flag(),
            "lazy_expire" | "lazy" => self.lazy_expire = flag(),
            "no_expire" => self.no_expire = flag(),
            "ignore_full" => self.ignore_full = flag(),
            "sweep_on_full" => self.sweep_on_full = number()?,
            "clear_on_full" => self.clear_on_full = flag(),
            "udp" | "udp_servers" | "udp_server" | "udpservers" | "udpserver" => self.udp_servers = list()?,
            "node" | "nodes" => self.nodes = list()?,
            "sync" => self.sync = list()?,
            "backend" => self.backend = Some(text()?.into()),
            _ => return Err(DefinitionError::UnknownKey { key: key.into(), nearest: nearest(key) }),
        }
        Ok(())
    }

    /// The definition with `blocks` filled in, if it makes a cache.
    pub fn checked(mut self) -> Result<Self, DefinitionError> {
        if self.name.is_empty() {
            return Err(DefinitionError::NoName);
        }
        if self.items == 0 && self.backend.is_none() {
            return Err(DefinitionError::NoItems { name: self.name });
        }
        if self.blocks == 0 {
            self.blocks = self.items;
        }
        if self.blocks < self.items {
            return Err(DefinitionError::FewBlocks { name: self.name, blocks: self.blocks, items: self.items });
        }
        if self.keysize == 0 || self.keysize >= 65535 {
            return Err(DefinitionError::OutOfRange { key: "keysize".into(), value: self.keysize, range: "1 to 65534 bytes" });
        }
        at_least_one("blocksize", self.blocksize)?;
        at_least_one("hashsize", self.hashsize)?;
        let bytes = self
            .blocks
            .checked_mul(self.blocksize.saturating_add(8))
            .and_then(|data| data.checked_add(self.items.saturating_mul(self.keysize + 1024)));
        if self.blocks >= INDEX_LIMIT || bytes.is_none_or(|bytes| bytes >= 1 << 46) {
            return Err(DefinitionError::TooBig { name: self.name });
        }
        Ok(self)
    }

    /// The largest value.
    pub fn largest_value(&self) -> u64 {
        if self.bitmap { self.blocksize.saturating_mul(self.blocks) } else { self.blocksize }
    }

    /// Whether a cache made for `other` can go on for this definition with all its items: what differs concerns behaviour only.
    pub fn same_shape(&self, other: &Self) -> bool {
        let shape = |d: &Self| (d.items, d.blocksize, d.blocks, d.bitmap, d.keysize, d.purge_lru);
        self.name == other.name && self.store == other.store && self.backend == other.backend && shape(self) == shape(other)
    }
}

/// Splits at commas outside of double quotes, and takes the quotes away.
fn parts(line: &str) -> Result<Vec<String>, DefinitionError> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            _ => parts.last_mut().into_iter().for_each(|part| part.push(character)),
        }
    }
    if quoted { Err(DefinitionError::Quote { text: line.into() }) } else { Ok(parts) }
}

fn split_list(value: &str) -> Vec<String> {
    value.split(';').map(str::trim).filter(|part| !part.is_empty()).map(Into::into).collect()
}

fn is_on(value: &str) -> bool {
    !["0", "false", "no", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

fn parse_number(key: &str, value: &str) -> Result<u64, DefinitionError> {
    value.parse().map_err(|_| DefinitionError::NotANumber { key: key.into(), value: value.into() })
}

fn parse_signed(key: &str, value: &str) -> Result<i64, DefinitionError> {
    value.parse().map_err(|_| DefinitionError::NotANumber { key: key.into(), value: value.into() })
}

fn at_least_one(key: &str, value: u64) -> Result<u64, DefinitionError> {
    if value == 0 { Err(DefinitionError::OutOfRange { key: key.into(), value, range: "at least 1" }) } else { Ok(value) }
}

fn nearest(key: &str) -> Option<&'static str> {
    let distance = |known: &&&'static str| strsim::damerau_levenshtein(known, key);
    KEYS.iter().min_by_key(distance).filter(|known| distance(known) <= 3).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> String {
        Definition::parse(line).expect_err(line).to_string()
    }

    #[test]
    fn defaults_are_uwsgis() {
        let d = Definition::parse("name=a,items=10").expect("valid");
        assert_eq!((d.name.as_str(), d.items, d.blocks, d.blocksize, d.keysize, d.hashsize), ("a", 10, 10, 65536, 2048, 65536));
        assert_eq!((d.hash, d.bitmap, d.purge_lru, d.store_sync, d.largest_value()), (HashKind::Djb33x, false, false, None, 65536));
    }

    #[test]
    fn every_key_and_alias_is_known() {
        for key in KEYS {
            let value = match *key {
                "hash" => "murmur2",
                "name" | "store" | "backend" => "redis://localhost",
                _ => "7",
            };
            let line = format!("name=x,items=5,{key}={value}");
            Definition::parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(Definition::parse("name=x,max_items=5,lru=1").expect("valid").purge_lru);
        assert_eq!(Definition::parse("name=x,maxitems=5,udp=a:1;b:2,").expect("valid").udp_servers, ["a:1", "b:2"]);
        assert_eq!(Definition::parse("name=x,items=1,hash=random,storesync=0").expect("valid").store_sync, Some(0));
    }

    #[test]
    fn flags_are_off_for_what_says_no() {
        for off in ["0", "false", "no", "OFF"] {
            assert!(!Definition::parse(&format!("name=x,items=1,lru={off},bitmap={off}")).expect("valid").purge_lru, "{off}");
        }
        for on in ["lru=1", "lru=yes", "lru", "lru="] {
            assert!(Definition::parse(&format!("name=x,items=1,{on}")).expect("valid").purge_lru, "{on}");
        }
    }

    #[test]
    fn errors_name_the_key() {
        assert_eq!(error("items=5"), "a cache needs a name (name=...)");
        assert!(error("name=x").contains("needs a number of items"));
        assert_eq!(error("name=x,items=12abc"), "items=12abc is no whole number");
        assert_eq!(error("name=x,items=0"), "items=0 is out of range: at least 1");
        assert_eq!(error("name=x,items=5,blocks=4"), "cache \"x\": blocks=4 is less than items=5");
        assert_eq!(error("name=x,items=5,keysize=0"), "keysize=0 is out of range: 1 to 65534 bytes");
        assert_eq!(error("name=x,items=5,keysize=65535"), "keysize=65535 is out of range: 1 to 65534 bytes");
        assert!(error("name=x,items=5,hash=md5").contains("hash=md5"));
        assert!(error("name=x,items=5,blocksize=0").contains("blocksize"));
        assert!(error("name=x,items=5,hashsize=0").contains("hashsize"));
        assert_eq!(error("name=x,items=5,blokcsize=4"), "unknown key \"blokcsize\" of a cache: did you mean \"blocksize\"?");
        assert_eq!(error("name=x,items=5,quite_another_thing=4"), "unknown key \"quite_another_thing\" of a cache");
        assert!(error("name=x,items=99999999999").contains("more memory"));
        assert!(error("name=x,items=1000000000,blocksize=1000000000000").contains("more memory"));
        assert!(error("name=x,items=5,store=\"a,b").contains("quote"));
        assert!(error("name=x,items=5,store").contains("store needs a value"));
    }

    #[test]
    fn a_backend_needs_no_items_and_quotes_keep_commas() {
        let d = Definition::parse("name=x,backend=redis://u:p@h:6379/1?a=b").expect("valid");
        assert_eq!(d.backend.as_deref(), Some("redis://u:p@h:6379/1?a=b"));
        assert_eq!(Definition::parse("name=x,items=1,store=\"/tmp/a,b\"").expect("valid").store, Some("/tmp/a,b".into()));
    }

    #[test]
    fn only_the_shape_decides_what_survives_a_reload() {
        let a = Definition::parse("name=x,items=5").expect("valid");
        assert!(a.same_shape(&Definition::parse("name=x,items=5,lazy=1,ignore_full=1,sweep_on_full=3,hash=murmur2").expect("valid")));
        for other in [
            "name=x,items=6",
            "name=y,items=5",
            "name=x,items=5,bitmap=1",
            "name=x,items=5,keysize=9",
            "name=x,items=5,store=/f",
            "name=x,items=5,lru=1",
        ] {
            assert!(!a.same_shape(&Definition::parse(other).expect("valid")), "{other}");
        }
    }

    #[test]
    fn it_survives_json() {
        let d = Definition::parse("name=x,items=5,store=/f,nodes=a;b,math_initial=-3").expect("valid");
        assert_eq!(serde_json::from_str::<Definition>(&serde_json::to_string(&d).expect("json")).expect("json"), d);
        assert_eq!(Definition::old_style(20).checked().expect("valid").name, "default");
    }
}
