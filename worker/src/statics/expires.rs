//! `static-expires...`: until when a file may be used without asking again.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::entity::last_date;
use crate::pattern::Pattern;
use crate::settings::{Expiry, Subject};

pub(super) struct Expires {
    /// By subject, each subject's in the order of the configuration, those from the file's time behind the others.
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

/// When one family of rules has a file expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Until {
    pub subject: Subject,
    /// What a date can say at most: the year 9999.
    pub time: SystemTime,
    /// Seconds from now; 0 if it is over.
    pub max_age: u64,
}

impl Expires {
    /// Patterns that do not compile are left out: the configuration has refused them.
    pub fn new(settings: &[Expiry]) -> Self {
        let mut sorted: Vec<_> = settings.iter().collect();
        sorted.sort_by_key(|expiry| (expiry.subject, expiry.from_mtime));
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

    /// The first rule of each subject that matches.
    pub fn until(&self, candidate: &Candidate<'_>) -> Vec<Until> {
        let mut found: Vec<Until> = vec![];
        if self.rules.is_empty() {
            return found;
        }
        let now = SystemTime::now();
        for rule in self.rules.iter().filter(|rule| rule.matches(candidate)) {
            let subject = rule.matcher.subject();
            if found.last().is_none_or(|last| last.subject != subject) {
                let start = if rule.from_mtime { candidate.modified } else { now };
                let time = start.checked_add(Duration::from_secs(rule.seconds.into())).unwrap_or(start).min(last_date());
                found.push(Until { subject, time, max_age: time.duration_since(now).unwrap_or_default().as_secs() });
            }
        }
        found
    }
}

impl Matcher {
    fn subject(&self) -> Subject {
        match self {
            Self::Type(_) => Subject::Type,
            Self::File(_) => Subject::File,
            Self::PathInfo(_) => Subject::PathInfo,
            Self::Uri(_) => Subject::Uri,
        }
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
    fn the_first_rule_of_each_family_counts() {
        let expires = Expires::new(&[
            expiry(Subject::Type, "text/plain", 9000, true),
            expiry(Subject::Type, "text/plain", 6000, false),
            expiry(Subject::Uri, r"\?v=\d+$", 1000, false),
            expiry(Subject::File, r"/b\.css$", 3000, false),
            expiry(Subject::File, r"\.css$", 4000, false),
            expiry(Subject::PathInfo, "^/s/", 5000, false),
            expiry(Subject::PathInfo, "^/old/", 100, true),
        ]);
        let modified = SystemTime::now() - Duration::from_secs(4500);
        let ages = |media_type, file: &str, path: &str, uri: &str| {
            let candidate = Candidate { media_type, file: Path::new(file), path_info: path.as_bytes(), uri: uri.as_bytes(), modified };
            expires.until(&candidate).iter().map(|until| until.max_age).collect::<Vec<_>>()
        };
        assert_eq!(ages(Some("text/plain"), "/b.css", "/s/", "/?v=1"), [3000, 5000, 1000, 6000]);
        assert_eq!(ages(None, "/a.css", "/", "/"), [4000]);
        assert_eq!(ages(None, "/a", "/old/a", "/"), [0], "over since 4400 seconds");
        assert_eq!(ages(None, "/a", "/a", "/a?v=12"), [1000]);
        assert!(ages(None, "/a", "/a", "/a").is_empty());
        assert!(expires.looks_at_paths() && !Expires::new(&[]).looks_at_paths());
    }

    #[test]
    fn a_date_that_cannot_be_written_is_the_last_that_can() {
        let expires = Expires::new(&[expiry(Subject::PathInfo, "^/", u32::MAX, true)]);
        let candidate = Candidate { media_type: None, file: Path::new("/a"), path_info: b"/a", uri: b"/a", modified: last_date() };
        assert_eq!(
            expires.until(&candidate).first().map(|until| httpdate::fmt_http_date(until.time)).as_deref(),
            Some("Fri, 31 Dec 9999 23:59:59 GMT")
        );
    }
}
