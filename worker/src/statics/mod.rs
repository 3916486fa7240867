//! Static files before the app: where they are looked for, and what they go out as.
//!
//! [`Statics::serve`] is the whole of it. `places` gives the order of the search, `resolve` opens beneath a directory, `open_files`
//! remembers what was found, `conditional`, `variants` and `expires` decide, `answer` sends.

mod answer;
mod asked;
mod complaints;
mod conditional;
mod entity;
mod expires;
mod open_files;
mod places;
mod remembered;
mod resolve;
mod types;
mod variants;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use imperator_protocol::http::ranges::{self, Wanted};
use imperator_protocol::vars::Vars;
use nix::errno::Errno;

use crate::clock::monotonic_ms;
use crate::language::NoLock;
use crate::log::diag;
use crate::request::Request;
use crate::settings::{CacheSettings, ServeMode, Static};

use answer::{Action, Answer};
use asked::Asked;
use complaints::Complaints;
use conditional::Condition;
use entity::Entity;
use expires::{Candidate, Expires};
use open_files::OpenFiles;
use places::Place;
use remembered::Remembered;
use resolve::{Found, Miss};
use types::Types;
use variants::{Coding, Compressed};

/// Static files of an instance, as one worker serves them.
pub(crate) struct Statics {
    places: Vec<Place>,
    index: Vec<String>,
    skip_ext: Vec<String>,
    /// Other directories that links may lead to.
    safe: Vec<PathBuf>,
    mimefiles: Vec<String>,
    types: OnceLock<Types>,
    compressed: Compressed,
    expires: Expires,
    honour_range: bool,
    serve_mode: ServeMode,
    /// Something looks at resolved paths.
    resolves: bool,
    open_files: OpenFiles,
    remembered: Option<Remembered>,
    complaints: Complaints,
}

impl Statics {
    pub fn new(settings: &Static, cache: &CacheSettings) -> Self {
        let compressed = Compressed::new(&settings.gzip);
        let expires = Expires::new(&settings.expires);
        let remembered = Remembered::new(cache);
        let resolves = compressed.looks_at_paths()
            || remembered.is_some()
            || expires.looks_at_paths()
            || !settings.skip_ext.is_empty()
            || settings.serve_mode != ServeMode::Ourselves;
        Self {
            places: places::all(settings),
            index: settings.index.clone(),
            skip_ext: settings.skip_ext.clone(),
            safe: settings.safe.iter().map(PathBuf::from).collect(),
            mimefiles: settings.mimefile.clone(),
            types: OnceLock::new(),
            compressed,
            expires,
            honour_range: settings.honour_range,
            serve_mode: settings.serve_mode,
            resolves,
            open_files: OpenFiles::default(),
            remembered,
            complaints: Complaints::default(),
        }
    }

    /// Says what the configuration names and is not there.
    pub fn warn(&self) {
        let targets = self.places.iter().filter_map(Place::own_target).chain(self.safe.iter().map(PathBuf::as_path));
        for target in targets.filter(|target| !target.exists()) {
            diag::say(&format!("static files: {} does not exist yet; it is looked for again at each request", target.display()));
        }
        for file in self.mimefiles.iter().filter(|file| !Path::new(file).exists()) {
            diag::say(&format!("mimefile = {file}: there is no such file; it is left out"));
        }
    }

    /// Answers a request for a file; false: the app has to. `key` is memory that is used again.
    pub fn serve(&self, request: &mut Request<'_>, key: &mut Vec<u8>) -> bool {
        if self.places.is_empty() {
            return false;
        }
        match self.answer(request.vars(), key) {
            Ok(None) => false,
            Ok(Some(answer)) => {
                answer.send(request);
                true
            }
            Err(errno) => {
                diag::say(&format!("a static file cannot be opened: {errno}; raise max-fd or the limits of the service"));
                request.fail(503, &NoLock);
                true
            }
        }
    }

    /// Answers with a file that the app named by its path: any that the worker may read.
    pub fn serve_path(&self, request: &mut Request<'_>, path: &[u8]) {
        let target = Path::new(OsStr::from_bytes(path));
        match self.open(target, b"", monotonic_ms()).map(|found| found.filter(|found| resolve::is_file(&found.stat))) {
            Ok(Some(found)) => {
                let entity = self.entity(found);
                self.shape(&Asked::read(request.vars()), &entity, entity.clone(), None).send(request);
            }
            missing => {
                let why = missing.err().map_or_else(|| "there is no such file".into(), |errno| errno.to_string());
                diag::say(&format!("the app's response names {}: {why}", target.display()));
                request.fail(404, &NoLock);
            }
        }
    }

    /// What a file answers to the request, if there is one.
    fn answer(&self, vars: Vars<'_>, key: &mut Vec<u8>) -> Result<Option<Answer>, Errno> {
        if !matches!(vars.get(b"REQUEST_METHOD"), Some(b"GET" | b"HEAD")) {
            return Ok(None);
        }
        let path = vars.get(b"PATH_INFO").unwrap_or_default();
        if path.contains(&0) || self.skips(path) {
            return Ok(None);
        }
        let Some(place) = self.search(path, vars, key)? else { return Ok(None) };
        if !self.skip_ext.is_empty() && self.skips(place.entity.name().as_os_str().as_bytes()) {
            return Ok(None);
        }
        let asked = Asked::read(vars);
        let (entity, coding) = self.variant(&place, asked.accept_encoding, key)?;
        Ok(Some(self.shape(&asked, &place.entity, entity, coding)))
    }

    fn skips(&self, path: &[u8]) -> bool {
        self.skip_ext.iter().any(|end| path.ends_with(end.as_bytes()))
    }

    /// Looks in each place, in order.
    fn search<'p>(&'p self, path: &'p [u8], vars: Vars<'p>, key: &mut Vec<u8>) -> Result<Option<Hit<'p>>, Errno> {
        let now = monotonic_ms();
        for (number, place) in self.places.iter().enumerate() {
            let Some(rest) = place.rest(path) else { continue };
            let document_root = if place.own_target().is_none() { vars.get(b"DOCUMENT_ROOT") } else { None };
            let Some(target) = place.target(document_root) else { continue };
            make_key(key, number, document_root, rest);
            let found = match &self.remembered {
                Some(remembered) => self.remember(remembered, target, rest, key, now)?,
                None => self.find(target, rest, key, now)?,
            };
            if let Some(entity) = found {
                return Ok(Some(Hit { entity, target, now }));
            }
        }
        Ok(None)
    }

    fn find(&self, target: &Path, rest: &[u8], key: &[u8], now: u64) -> Result<Option<Arc<Entity>>, Errno> {
        match self.open_files.fresh(key, now) {
            Some(entity) => Ok(Some(entity)),
            None => self.look(target, rest, key, now),
        }
    }

    /// As [`Self::find`], by way of the cache of `static-cache-paths`.
    fn remember(&self, cache: &Remembered, target: &Path, rest: &[u8], key: &[u8], now: u64) -> Result<Option<Arc<Entity>>, Errno> {
        let path = [target.as_os_str().as_bytes(), b"/", rest].concat();
        let known = cache.get(&path);
        let was_known = known.is_some();
        if let Some(entity) = self.open_files.fresh(key, now).filter(|_| was_known) {
            return Ok(Some(entity));
        }
        if let Some(found) = known.and_then(|known| resolve::open_remembered(target, known, &self.safe).ok()) {
            let entity = self.entity(found);
            self.open_files.keep(key, &entity, now);
            return Ok(Some(entity));
        }
        let found = self.look(target, rest, key, now)?;
        if let Some(entity) = &found {
            cache.set(&path, entity.name());
        }
        Ok(found)
    }

    /// The file that `rest` names below the target, or the index of the directory that it names.
    fn look(&self, target: &Path, rest: &[u8], key: &[u8], now: u64) -> Result<Option<Arc<Entity>>, Errno> {
        let Some(found) = self.open(target, rest, now)? else { return Ok(None) };
        if resolve::is_file(&found.stat) {
            let entity = self.entity(found);
            self.open_files.keep(key, &entity, now);
            return Ok(Some(entity));
        }
        if !resolve::is_directory(&found.stat) {
            return Ok(None);
        }
        for (number, index) in self.index.iter().enumerate() {
            let relative = [rest, b"/", index.as_bytes()].concat();
            if let Some(found) = self.open(target, &relative, now)?.filter(|found| resolve::is_file(&found.stat)) {
                let entity = self.entity(found);
                // One that was looked for before it may come to be at any time.
                if number == 0 {
                    self.open_files.keep(key, &entity, now);
                }
                return Ok(Some(entity));
            }
        }
        Ok(None)
    }

    fn open(&self, target: &Path, relative: &[u8], now: u64) -> Result<Option<Found>, Errno> {
        let mut opened = resolve::open(target, relative, &self.safe);
        if let Err(Miss::Exhausted(_)) = opened {
            self.open_files.clear();
            opened = resolve::open(target, relative, &self.safe);
        }
        match opened {
            Ok(found) => return Ok(Some(found)),
            Err(Miss::Exhausted(errno)) => return Err(errno),
            Err(Miss::Nothing) => {}
            Err(Miss::Outside(end)) => self.complaints.about(end.clone(), now, || {
                let asked = String::from_utf8_lossy(relative).into_owned();
                format!("security error: {asked} is not under {} or a safe path: it leads to {}", target.display(), end.display())
            }),
            Err(Miss::Refused(path, errno)) => {
                self.complaints.about(path.clone(), now, || format!("static files: {} cannot be opened: {errno}", path.display()));
            }
        }
        Ok(None)
    }

    fn entity(&self, found: Found) -> Arc<Entity> {
        let resolved = if self.resolves || found.by_link { resolve::resolved(&found.path, &found.stat) } else { None };
        let name = resolved.as_deref().unwrap_or(&found.path);
        let media_type = self.types.get_or_init(|| Types::read(&self.mimefiles)).of(name.as_os_str().as_bytes()).map(str::to_owned);
        let may_vary = self.compressed.covers(name);
        Arc::new(Entity::new(found, resolved, media_type, may_vary, SystemTime::now()))
    }

    /// The compressed form that the client wants most of those that are there, else the file itself.
    fn variant(&self, hit: &Hit<'_>, accept: Option<&[u8]>, key: &mut Vec<u8>) -> Result<(Arc<Entity>, Option<Coding>), Errno> {
        let plain = hit.entity.clone();
        let Some(accept) = accept.filter(|_| plain.may_vary) else { return Ok((plain, None)) };
        let length = key.len();
        for coding in variants::acceptable(accept) {
            key.truncate(length);
            key.push(0);
            key.extend_from_slice(coding.suffix().as_bytes());
            let found = match self.open_files.fresh(key, hit.now) {
                Some(entity) => Some(entity),
                None => self.look_beside(hit, coding, key)?,
            };
            if let Some(entity) = found {
                return Ok((entity, Some(coding)));
            }
        }
        Ok((plain, None))
    }

    fn look_beside(&self, hit: &Hit<'_>, coding: Coding, key: &[u8]) -> Result<Option<Arc<Entity>>, Errno> {
        let mut path = hit.entity.path.as_os_str().as_bytes().to_vec();
        path.extend_from_slice(coding.suffix().as_bytes());
        let target = hit.target.as_os_str().as_bytes();
        let found = match path.strip_prefix(target).filter(|rest| rest.starts_with(b"/") || target.ends_with(b"/")) {
            Some(relative) => self.open(hit.target, relative, hit.now)?,
            // The target is the file itself: its directory is the bound.
            None => {
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                let directory = hit.target.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
                self.open(directory, name, hit.now)?
            }
        };
        let entity = found.filter(|found| resolve::is_file(&found.stat)).map(|found| self.entity(found));
        if let Some(entity) = &entity {
            self.open_files.keep(key, entity, hit.now);
        }
        Ok(entity)
    }

    /// Which answer it is, and its headers. `entity` is what would be sent, `plain` the file that was asked for.
    fn shape(&self, asked: &Asked<'_>, plain: &Arc<Entity>, entity: Arc<Entity>, coding: Option<Coding>) -> Answer {
        let candidate = Candidate {
            media_type: plain.media_type.as_deref(),
            file: plain.name(),
            path_info: asked.path_info,
            uri: asked.uri,
            modified: plain.modified,
        };
        let until = self.expires.until(&candidate);
        let etag = coding.map(|coding| answer::tag_of(&entity, coding));
        let action = self.action(asked, &entity, etag.as_deref().unwrap_or(&entity.etag));
        Answer { plain: plain.clone(), entity, coding, etag, until, action, head: asked.head, ranges: self.honour_range }
    }

    fn action(&self, asked: &Asked<'_>, entity: &Entity, etag: &str) -> Action {
        match conditional::condition(asked, etag, entity.modified) {
            Condition::NotModified => return Action::NotModified,
            Condition::Failed => return Action::PreconditionFailed,
            Condition::Met => {}
        }
        if self.serve_mode != ServeMode::Ourselves {
            return Action::HandOver(self.serve_mode);
        }
        let range = asked.range.filter(|_| self.honour_range && !asked.head);
        match range.filter(|_| conditional::range_holds(asked.if_range, etag, entity.modified)) {
            None => Action::Whole,
            Some(range) => match ranges::wanted(range, entity.length) {
                Wanted::Whole => Action::Whole,
                Wanted::Unsatisfiable => Action::Unsatisfiable,
                Wanted::Parts(parts) => answer::parts(parts),
            },
        }
    }
}

/// A file that was found, and where.
struct Hit<'p> {
    entity: Arc<Entity>,
    target: &'p Path,
    /// Milliseconds.
    now: u64,
}

/// Names a path of a place: no two have the same, as neither part has a NUL.
fn make_key(key: &mut Vec<u8>, place: usize, document_root: Option<&[u8]>, rest: &[u8]) {
    key.clear();
    key.extend_from_slice(&place.to_le_bytes());
    if let Some(root) = document_root {
        key.extend_from_slice(root);
        key.push(0);
    }
    key.extend_from_slice(rest);
}

#[cfg(test)]
mod tests;
