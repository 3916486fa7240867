//! `--help`: the option table as text.

use std::fmt::Write as _;

use crate::config::table::{Spec, Status, chapters};

const USAGE: &str = "\
Usage: imperator [OPTION...] [FILE]     run an instance or an emperor; FILE is .ini, .xml, .yaml, .json or .lua
       imperator check FILE...          say what a configuration means and what is wrong with it; starts nothing
       imperator ps|top|why|log|stats|reload|stop|start [NAME|FILE]
                                        look at an instance (FILE) or at the vassals of an emperor (NAME, or nothing), and steer them:
                                        `imperator ps --help`
       imperator options [--markdown]   the options, one a line or as a page of the manual
       imperator help                   this text

Each option may stand on the command line (--processes 4), in a file (processes = 4) and in the environment (UWSGI_PROCESSES=4).
";

/// Width of the column of names.
const COLUMN: usize = 38;

/// The whole text.
pub fn text() -> String {
    let mut out = String::from(USAGE);
    for (section, specs) in chapters() {
        let _ = write!(out, "\n{}\n", section.title());
        for spec in specs {
            line(&mut out, &spec);
        }
    }
    out
}

fn line(out: &mut String, spec: &Spec) {
    let short = spec.short.map_or_else(|| "    ".into(), |letter| format!("-{letter}, "));
    let names: Vec<String> = spec.names().map(|name| format!("--{name}")).collect();
    let left = format!("  {short}{}{}", names.join(", "), spec.kind.placeholder());
    if left.len() < COLUMN {
        let _ = write!(out, "{left:COLUMN$}");
    } else {
        let _ = write!(out, "{left}\n{:COLUMN$}", "");
    }
    let _ = writeln!(out, "{}{}{}", spec.help, if spec.list { " (repeatable)" } else { "" }, status(spec));
}

fn status(spec: &Spec) -> String {
    match spec.status {
        Status::Done(_) | Status::Immediate => String::new(),
        Status::NoEffect(why) => format!(" [no effect: {why}]"),
        Status::NotYet { instead, .. } => format!(" [not done yet: {instead}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_row_is_shown() {
        let text = text();
        assert!(text.starts_with("Usage: imperator"));
        for line in [
            "\nSockets\n",
            "\n  -p, --processes, --workers N        how many workers (1)\n",
            "\n  -M, --master                        a process that supervises the workers (on)\n",
            "--need-app",
            "--env TEXT                      K=V: an environment variable of the app; K alone removes it (repeatable)\n",
            "--thunder-lock                  one worker accepts at a time [no effect: the kernel wakes one worker",
            "[not done yet: use `http-socket`",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
