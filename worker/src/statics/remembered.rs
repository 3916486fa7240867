//! `static-cache-paths`: which file a path was found to be, in a cache that all workers share. What is remembered is a path: it is opened
//! and checked anew each time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::host::host;
use crate::language::NoLock;
use crate::settings::CacheSettings;

pub(super) struct Remembered {
    /// For which a path is remembered.
    seconds: i64,
    /// The cache; empty: the first.
    name: String,
}

impl Remembered {
    /// `None` where it is off.
    pub fn new(settings: &CacheSettings) -> Option<Self> {
        let name = settings.static_paths_name.clone().unwrap_or_default();
        (settings.static_paths > 0).then(|| Self { seconds: settings.static_paths.into(), name })
    }

    /// The path without links that `path` led to.
    pub fn get(&self, path: &[u8]) -> Option<PathBuf> {
        let mut value = Vec::new();
        host()?.caches().get(path, self.name.as_bytes(), &mut value, &NoLock)?;
        Some(OsStr::from_bytes(&value).into())
    }

    /// A path that does not fit is not remembered.
    pub fn set(&self, path: &[u8], resolved: &Path) {
        if let Some(host) = host() {
            host.caches().update(path, resolved.as_os_str().as_bytes(), self.seconds, self.name.as_bytes(), &NoLock);
        }
    }
}
