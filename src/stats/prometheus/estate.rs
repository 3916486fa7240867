//! Pages of many vassals as one: each sample with a label that says whose it is.
//!
//! A vassal of a tyrant writes what it likes. It can hurt nobody but itself: lines that Prometheus would not read are left out, what
//! an instance says by itself keeps its type, and whose a sample is stands in our words.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::sample::{Comment, Sample, is_number};
use super::writer::escaped;
use super::{Snapshot, Totals, prometheus};
use crate::stats::Histogram;

/// Samples that one vassal may have: cores and caches of thousands.
const MOST: usize = 50_000;
/// Bytes of a HELP text.
const HELP: usize = 500;
/// The label that says whose a sample is.
const VASSAL: &str = "vassal";
/// What Prometheus calls a label whose name it needs itself.
const EXPORTED: &str = "exported_vassal";

/// One page of `own`, which stands as it is, and of the vassals' pages (name and text): HELP and TYPE once a family, the samples of a family
/// in one piece, all of a vassal's with `vassal="NAME"`. A name that `own` uses is nobody else's.
pub fn merge(own: &str, vassals: &[(&str, &str)]) -> String {
    let mut estate = Estate::knowing(own);
    vassals.iter().for_each(|(_, text)| estate.declare(text));
    vassals.iter().for_each(|(name, text)| estate.add(name, text));
    estate.page(own)
}

#[derive(Default)]
struct Estate<'t> {
    /// In the order of their first sample.
    families: Vec<Family<'t>>,
    index: HashMap<&'t str, usize>,
    /// Families of an instance, by their types, with their texts: a vassal cannot change these.
    known: HashMap<String, (String, String)>,
    /// Types and texts that vassals gave to others.
    declared: HashMap<&'t str, Declared<'t>>,
    /// Names of the page that is not a vassal's.
    reserved: BTreeSet<&'t str>,
}

#[derive(Default)]
struct Declared<'t> {
    /// `None`: two vassals do not agree.
    kind: Option<&'t str>,
    help: &'t str,
}

struct Family<'t> {
    name: &'t str,
    samples: String,
}

impl<'t> Estate<'t> {
    fn knowing(own: &'t str) -> Self {
        let reserved = own.lines().filter_map(Comment::parse).map(|comment| match comment {
            Comment::Help { name, .. } | Comment::Type { name, .. } => name,
        });
        Self { reserved: reserved.collect(), known: known(), ..Self::default() }
    }

    fn declare(&mut self, text: &'t str) {
        for comment in text.lines().take(MOST).filter_map(Comment::parse) {
            match comment {
                Comment::Help { name, text } => {
                    let declared = self.declared.entry(name).or_insert_with(|| Declared { kind: Some(""), help: "" });
                    if declared.help.is_empty() {
                        declared.help = text;
                    }
                }
                Comment::Type { name, kind } => {
                    let declared = self.declared.entry(name).or_insert_with(|| Declared { kind: Some(""), help: "" });
                    if declared.kind == Some("") {
                        declared.kind = Some(kind);
                    } else if declared.kind != Some(kind) {
                        declared.kind = None;
                    }
                }
            }
        }
    }

    fn add(&mut self, vassal: &str, text: &'t str) {
        let whose = escaped(vassal);
        let mut seen = BTreeSet::new();
        for sample in text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).take(MOST) {
            let Some(family) = self.family_of(&sample) else { continue };
            if self.reserved.contains(family) {
                continue;
            }
            let line = labelled(&sample, &whose);
            if seen.insert(line.clone()) {
                let samples = &mut self.family(family).samples;
                let _ = writeln!(samples, "{line} {}", sample.value);
            }
        }
    }

    /// The family that a sample belongs to; `None`: it does not fit into the one that its name is of.
    fn family_of(&self, sample: &Sample<'t>) -> Option<&'t str> {
        let histogram = |name: &str| self.known.get(name).is_some_and(|(kind, _)| kind == "histogram");
        for suffix in ["_bucket", "_sum", "_count"] {
            if let Some(name) = sample.name.strip_suffix(suffix).filter(|name| histogram(name)) {
                let bound = sample.label("le").is_some_and(is_number);
                return (suffix != "_bucket" || bound).then_some(name);
            }
        }
        (!histogram(sample.name)).then_some(sample.name)
    }

    fn family(&mut self, name: &'t str) -> &mut Family<'t> {
        let next = self.families.len();
        let index = *self.index.entry(name).or_insert(next);
        if index == next {
            self.families.push(Family { name, samples: String::new() });
        }
        &mut self.families[index]
    }

    fn page(&self, own: &str) -> String {
        let mut page = String::from(own);
        if !page.is_empty() && !page.ends_with('\n') {
            page.push('\n');
        }
        for family in &self.families {
            let (kind, help) = self.told(family.name);
            let _ = write!(page, "# HELP {0} {help}\n# TYPE {0} {kind}\n{1}", family.name, family.samples);
        }
        page
    }

    /// Type and text of a family.
    fn told(&self, name: &str) -> (String, String) {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let declared = self.declared.get(name);
        // Apps' own metrics are counters and gauges: anything else would claim names of other families.
        let kind = declared.and_then(|d| d.kind).filter(|kind| matches!(*kind, "counter" | "gauge")).unwrap_or("untyped");
        (kind.to_owned(), help(declared.map_or("", |d| d.help)))
    }
}

/// The sample without its value, as it stands in the page.
fn labelled(sample: &Sample<'_>, whose: &str) -> String {
    let mut line = format!("{}{{{VASSAL}=\"{whose}\"", sample.name);
    for (name, value) in sample.labels.iter().filter(|(name, _)| *name != EXPORTED) {
        let name = if *name == VASSAL { EXPORTED } else { name };
        let _ = write!(line, ",{name}=\"{value}\"");
    }
    line.push('}');
    line
}

/// Without escapes that Prometheus does not know.
fn help(text: &str) -> String {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= HELP).unwrap_or(text.len());
    let plain = text[..end].replace("\\n", " ").replace("\\\\", "\\");
    plain.chars().filter(|c| !c.is_control()).collect::<String>().replace('\\', "\\\\")
}

/// What an instance says by itself, from a page of one that has everything.
fn known() -> HashMap<String, (String, String)> {
    let totals = Totals { queued: Some(Histogram::default()), ..Totals::default() };
    let cache = imperator_worker::host::cache::CacheRow::elsewhere(&imperator_cache::Definition::default());
    let page = prometheus("/metrics", &Snapshot { caches: vec![cache], ..Snapshot::default() }, &totals, &[]);
    let mut known: HashMap<String, (String, String)> = HashMap::new();
    for comment in page.body.lines().filter_map(Comment::parse) {
        match comment {
            Comment::Help { name, text } => text.clone_into(&mut known.entry(name.to_owned()).or_default().1),
            Comment::Type { name, kind } => kind.clone_into(&mut known.entry(name.to_owned()).or_default().0),
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn families_of_two_vassals_become_one() {
        let a = "# HELP uwsgi_workers Mine.\n# TYPE uwsgi_workers gauge\nuwsgi_workers 2\n# TYPE uwsgi_sales counter\nuwsgi_sales{shop=\"x\"} 5\n";
        let b = "# HELP uwsgi_workers Others.\n# TYPE uwsgi_workers counter\nuwsgi_workers 3\n";
        assert_eq!(
            merge("# TYPE e gauge\ne 1", &[("a.ini", a), ("b\".ini", b)]),
            "# TYPE e gauge\ne 1\n\
             # HELP uwsgi_workers Workers that are configured.\n# TYPE uwsgi_workers gauge\nuwsgi_workers{vassal=\"a.ini\"} 2\nuwsgi_workers{vassal=\"b\\\".ini\"} 3\n\
             # HELP uwsgi_sales \n# TYPE uwsgi_sales counter\nuwsgi_sales{vassal=\"a.ini\",shop=\"x\"} 5\n"
        );
        assert_eq!(merge("", &[]), "");
    }

    #[test]
    fn a_whole_page_of_an_instance_goes_in_as_it_is() {
        let page = prometheus("/metrics", &Snapshot::default(), &Totals::default(), &[]);
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        let merged = merge("", &[("a", &page.body)]);
        assert_eq!(samples(&merged), samples(&page.body));
        assert!(merged.contains("uwsgi_request_duration_seconds_bucket{vassal=\"a\",le=\"+Inf\"} 0\n"), "{merged}");
        assert_eq!(merged.matches("# TYPE uwsgi_request_duration_seconds ").count(), 1);
    }

    #[test]
    fn a_vassal_that_lies_hurts_itself_only() {
        let honest = "# TYPE uwsgi_sales counter\nuwsgi_sales 5\nuwsgi_request_duration_seconds_bucket{le=\"1\"} 4\n";
        let liar = concat!(
            "# TYPE uwsgi_sales histogram\n# HELP uwsgi_sales a\\qb\n# TYPE uwsgi_request_duration_seconds gauge\n# TYPE uwsgi_vassal_up gauge\n",
            "uwsgi_vassal_up{vassal=\"honest\"} 0\nuwsgi_sales{vassal=\"honest\"} 1e3\nuwsgi_sales{vassal=\"honest\"} 2\n",
            "uwsgi_request_duration_seconds 7\nuwsgi_request_duration_seconds_bucket 7\nuwsgi_request_duration_seconds_bucket{le=\"x\"} 7\n",
            "uwsgi_sales{x=\"\\q\"} 1\nnonsense\n# TYPE\n",
        );
        let merged = merge("# TYPE uwsgi_vassal_up gauge\nuwsgi_vassal_up{vassal=\"honest\"} 1\n", &[("liar", liar), ("honest", honest)]);
        assert_eq!(
            merged,
            "# TYPE uwsgi_vassal_up gauge\nuwsgi_vassal_up{vassal=\"honest\"} 1\n\
             # HELP uwsgi_sales a\\\\qb\n# TYPE uwsgi_sales untyped\n\
             uwsgi_sales{vassal=\"liar\",exported_vassal=\"honest\"} 1e3\nuwsgi_sales{vassal=\"honest\"} 5\n\
             # HELP uwsgi_request_duration_seconds How long requests took, those for static files left out.\n# TYPE uwsgi_request_duration_seconds histogram\n\
             uwsgi_request_duration_seconds_bucket{vassal=\"honest\",le=\"1\"} 4\n"
        );
    }

    proptest! {
        /// Whatever a vassal writes: every line of the page can be read, names its vassal, and no series is there twice.
        #[test]
        fn every_page_can_be_read(text in "(# (HELP|TYPE) )?[a-c_]{1,3}(_bucket)?(\\{[a-c\"=,\\\\ le]{0,8}\\})?[ 0-9.Na]{0,5}\n(.|\n){0,60}") {
            let merged = merge("", &[("v", &text), ("w", &text)]);
            let mut seen = BTreeSet::new();
            for line in merged.lines() {
                if line.starts_with('#') {
                    prop_assert!(Comment::parse(line).is_some(), "{line:?}");
                } else {
                    let sample = Sample::parse(line);
                    prop_assert!(sample.as_ref().is_some_and(|s| matches!(s.label("vassal"), Some("v" | "w"))), "{line:?}");
                    prop_assert!(seen.insert(line.rsplit_once(' ').map(|(series, _)| series.to_owned())), "{line:?} twice");
                }
            }
        }
    }
}
