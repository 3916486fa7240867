//! `imperator options`: the table for tools, and as the manual's page of options.

use std::fmt::Write as _;

use super::{complain, print};
use crate::config::table::{Kind, Spec, Status, all, chapters};

const INTRODUCTION: &str = "\
# Options

<!-- Made by `imperator options --markdown`; change src/config/table/ instead. -->

Every option that uWSGI has is known by name; the last column says what this release does about it:

- **done**: it works as its line says;
- **no effect**: it is accepted, and why it has nothing to do;
- **not done**: a start says so in one line, and what to use instead. Where **refused** stands it would change what is served, or who may read
  it, so that the start ends with exit code 1.

A flag is on unless its value is `false`, `off`, `no` or `0`. *list* means that the option may be repeated and that its values add up;
of the others the last one counts. Names in brackets are other spellings of the same option.
";

/// Prints the table; the exit code.
pub fn run(words: &[String]) -> i32 {
    match words {
        [] => print(&plain()),
        [word] if word == "--markdown" => print(&markdown()),
        [word, ..] => {
            complain(&format!("`{word}`: only --markdown may follow `options`"));
            return 1;
        }
    }
    0
}

/// Name, kind, status and help, by tabs.
fn plain() -> String {
    let mut out = String::new();
    for spec in all() {
        for name in spec.names() {
            let _ = writeln!(out, "{name}\t{}\t{}\t{}", kind(&spec), status(&spec).0, spec.help);
        }
    }
    out
}

/// The page of the manual.
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    for (section, specs) in chapters() {
        let _ = write!(out, "\n## {}\n\n| option | value | meaning | |\n|---|---|---|---|\n", section.title());
        for spec in specs {
            let _ = writeln!(out, "| {} | {} | {} | {} |", names(&spec), kind(&spec), cell(spec.help), comment(&spec));
        }
    }
    out
}

fn names(spec: &Spec) -> String {
    let others: Vec<String> =
        spec.names().skip(1).map(|name| format!("`{name}`")).chain(spec.short.map(|letter| format!("`-{letter}`"))).collect();
    if others.is_empty() { format!("`{}`", spec.name) } else { format!("`{}` ({})", spec.name, others.join(", ")) }
}

fn kind(spec: &Spec) -> &'static str {
    match (spec.kind, spec.list) {
        (Kind::Flag | Kind::OptionalFlag, _) => "flag",
        (Kind::Int | Kind::OptionalInt | Kind::Long, _) => "number",
        (Kind::Megabytes, _) => "megabytes",
        (Kind::Octal, _) => "octal",
        (Kind::Text | Kind::OptionalText, true) => "list",
        (Kind::Text | Kind::OptionalText, false) => "text",
    }
}

fn status(spec: &Spec) -> (&'static str, &'static str) {
    match spec.status {
        Status::Done(_) | Status::Immediate => ("done", ""),
        Status::NoEffect(why) => ("no effect", why),
        Status::NotYet { stops: true, instead } => ("refused", instead),
        Status::NotYet { stops: false, instead } => ("not done", instead),
    }
}

fn comment(spec: &Spec) -> String {
    match status(spec) {
        ("done", _) => "done".into(),
        (word, why) => format!("**{word}**: {}", cell(why)),
    }
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manuals_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
        let page = std::fs::read_to_string(path).expect(path);
        assert!(page == markdown(), "docs/options.md is old: cargo run -- options --markdown > docs/options.md");
    }

    #[test]
    fn the_plain_table_has_a_line_for_each_name() {
        let table = plain();
        assert!(table.contains("\nworkers\tnumber\tdone\thow many workers (1)\n"));
        assert_eq!(table.lines().count(), crate::config::table::names().count());
        assert!(table.lines().all(|line| line.split('\t').count() == 4));
    }
}
