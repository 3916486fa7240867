//! `static-expires...`: until when a file may be used without asking again.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::pattern::Pattern;
use crate::settings::{Expiry, Subject};

pub(super) struct Expires {
    /// By subject, each subject's in the order of the configuration.
    rules: Vec<Rule>,
}

struct Rule {
    matcher: Matcher,
    seconds: u32,
    from_mtime: bool,
}

enum Matcher {
    Type(String),
    File(Pattern),
    PathInfo(Pattern),
    Uri(Pattern),
}

/// What the rules look at.
pub(super) struct Candidate<'a> {
    pub media_type: Option<&'a str>,
    pub file: &'a Path,
    pub path_info: &'a [u8],
    pub uri: &'a [u8],
    pub modified: SystemTime,
}

/// The headers Expires and Cache-Control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Until {
    pub time: SystemTime,
    /// Seconds from now; 0 if it is over.
    pub max_age: u64,
}

impl Expires {
    /// Patterns that do not compile are left out: the configuration has refused them.
    pub fn new(settings: &[Expiry]) -> Self {
        let mut sorted: Vec<_> = settings.iter().collect();
        sorted.sort_by_key(|expiry| expiry.subject);
        let rule = |expiry: &Expiry| {
            let pattern = || Pattern::new(&expiry.pattern).ok();
            let matcher = match expiry.subject {
                Subject::Type => Matcher::Type(expiry.pattern.clone()),
                Subject::File => Matcher::File(pattern()?),
                Subject::PathInfo => Matcher::PathInfo(pattern()?),
                Subject::Uri => Matcher::Uri(pattern()?),
            };
            Some(Rule { matcher, seconds: expiry.seconds, from_mtime: expiry.from_mtime })
        };
        Self { rules: sorted.into_iter().filter_map(rule).collect() }
    }

    /// Whether a file's resolved path decides.
    pub fn looks_at_paths(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.matcher, Matcher::File(_)))
    }

    /// The first rule that matches counts: two Expires headers would be none to a client.
    pub fn until(&self, candidate: &Candidate<'_>) -> Option<Until> {
        let rule = self.rules.iter().find(|rule| rule.matches(candidate))?;
        let now = SystemTime::now();
        let time = if rule.from_mtime { candidate.modified } else { now } + Duration::from_secs(rule.seconds.into());
        Some(Until { time, max_age: time.duration_since(now).unwrap_or_default().as_secs() })
    }
}

impl Rule {
    fn matches(&self, candidate: &Candidate<'_>) -> bool {
        match &self.matcher {
            Matcher::Type(name) => candidate.media_type.is_some_and(|known| known == name),
            Matcher::File(pattern) => pattern.matches(candidate.file.as_os_str().as_bytes()),
            Matcher::PathInfo(pattern) => pattern.matches(candidate.path_info),
            Matcher::Uri(pattern) => pattern.matches(candidate.uri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(subject: Subject, pattern: &str, seconds: u32, from_mtime: bool) -> Expiry {
        Expiry { subject, pattern: pattern.into(), seconds, from_mtime }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let expires = Expires::new(&[
            expiry(Subject::Uri, r"\?v=\d+$", 1000, false),
            expiry(Subject::File, r"/b\.css$", 3000, false),
            expiry(Subject::File, r"\.css$", 4000, true),
            expiry(Subject::PathInfo, "^/s/", 5000, true),
            expiry(Subject::Type, "text/plain", 6000, false),
        ]);
        let modified = SystemTime::now() - Duration::from_secs(4500);
        let age = |media_type, file: &str, path: &str, uri: &str| {
            let candidate = Candidate { media_type, file: Path::new(file), path_info: path.as_bytes(), uri: uri.as_bytes(), modified };
            expires.until(&candidate).map(|until| until.max_age)
        };
        assert_eq!(age(Some("text/plain"), "/b.css", "/s/", "/?v=1"), Some(6000));
        assert_eq!(age(None, "/b.css", "/s/", "/?v=1"), Some(3000));
        assert_eq!(age(None, "/a.css", "/", "/"), Some(0), "over since 500 seconds");
        assert!(age(None, "/a", "/s/a", "/").is_some_and(|age| (490..=500).contains(&age)));
        assert_eq!(age(None, "/a", "/a", "/a?v=12"), Some(1000));
        assert_eq!(age(None, "/a", "/a", "/a"), None);
        assert!(expires.looks_at_paths() && !Expires::new(&[]).looks_at_paths());
    }
}
