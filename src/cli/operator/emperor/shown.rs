//! The emperor's answers for people.

use std::fmt::Write as _;

use super::super::shown::{bytes, now, plain, span};
use super::super::table::{Side, table};
use crate::emperor::command::say::{Log, Ps, Row, Why};
use crate::emperor::core::State;

/// Characters of the last column.
const REMARK: usize = 90;

/// Seconds after which a start is a long one.
const LONG: u64 = 5;
/// Lines of its log that `why` shows.
const LINES: usize = 20;

/// A line a vassal.
pub(super) fn ps(ps: &Ps) -> String {
    use Side::{Left, Right};
    let columns = [
        ("NAME", Left),
        ("STATE", Left),
        ("SINCE", Right),
        ("PID", Right),
        ("WORKERS", Right),
        ("BUSY", Right),
        ("REQUESTS", Right),
        ("ERRORS", Right),
        ("RSS", Right),
        ("RESTARTS", Right),
        ("LAST ERROR", Left),
    ];
    let now = now();
    let rows: Vec<Vec<String>> = ps.vassals.iter().map(|row| cells(row, now)).collect();
    if rows.is_empty() {
        return format!("the emperor (pid {}) governs no vassal; it watches {}\n", ps.pid, plain(&ps.sources.join(", ")));
    }
    table(&columns, &rows)
}

fn cells(row: &Row, now: u64) -> Vec<String> {
    let figure = |of: fn(&crate::stats::Figures) -> u64| row.figures.as_ref().map_or_else(|| "-".into(), |f| of(f).to_string());
    vec![
        plain(&row.name),
        word(row.state).into(),
        if row.since > 0 { span(now.saturating_sub(row.since as u64)) } else { "-".into() },
        row.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
        figure(|f| f.workers),
        figure(|f| f.busy),
        figure(|f| f.requests),
        figure(|f| f.errors),
        row.figures.as_ref().map_or_else(|| "-".into(), |f| bytes(f.rss)),
        row.restarts.to_string(),
        remark(row, now),
    ]
}

/// As it stands in tables.
pub(in crate::cli::operator) fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Starting => "starting",
        State::Reloading => "reloading",
        State::Sleeping => "sleeping",
        State::Throttled => "throttled",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
    }
}

/// What was wrong last, in one line.
pub(in crate::cli::operator) fn remark(row: &Row, now: u64) -> String {
    let text = match row.state {
        State::Throttled => {
            let next = row.next_try.map_or(0, |at| (at as u64).saturating_sub(now));
            format!("next try in {next} s: {}", row.last_line.as_deref().or(row.last_exit.as_deref()).unwrap_or_default().trim())
        }
        State::Stopped => row.reason.clone().unwrap_or_default(),
        // It should be up by now: what it said may tell why it is not.
        State::Starting | State::Reloading if row.last_exit.is_none() && row.since > 0 && now.saturating_sub(row.since as u64) >= LONG => {
            row.last_line.clone().unwrap_or_default()
        }
        _ => row.last_exit.clone().unwrap_or_default(),
    };
    let text = plain(&text);
    if text.chars().count() > REMARK { text.chars().take(REMARK - 1).chain(['…']).collect() } else { text }
}

/// The whole story of one.
pub(super) fn why(why: &Why) -> String {
    let row = &why.row;
    let now = now();
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<11}{}", plain(text));
    };
    let ago = |at: i64| format!("{} ago", span(now.saturating_sub(at.max(0) as u64)));
    line("vassal", &row.name);
    line("file", &row.config);
    line("state", &format!("{}, since {}", word(row.state), span(now.saturating_sub(row.since.max(0) as u64))));
    match (row.pid, &row.on_demand) {
        (Some(pid), _) => line("process", &pid.to_string()),
        (None, Some(socket)) => line("process", &format!("none; the first connection to {socket} starts it")),
        (None, None) => line("process", "none"),
    }
    if let Some(trouble) = &why.trouble {
        line("trouble", trouble);
    }
    if let Some(reason) = &row.reason {
        line("because", reason);
    }
    line("restarts", &row.restarts.to_string());
    match (&row.last_exit, why.last_exit_at) {
        (Some(exit), Some(at)) => line("last end", &format!("{exit} ({})", ago(at))),
        _ => line("last end", "none yet"),
    }
    if let Some(at) = row.next_try {
        let seconds = (at as u64).saturating_sub(now);
        line(
            "next try",
            &if seconds == 0 {
                "at once".to_owned()
            } else {
                format!("in {seconds} s; a change of its file, or `imperator start`, at once",)
            },
        );
    }
    for (number, advice) in why.advice.iter().enumerate() {
        line(if number == 0 { "what to do" } else { "" }, advice);
    }
    if let Some(log) = &why.log {
        line("log", log);
    }
    if why.lines.is_empty() {
        line("it said", "nothing that the emperor has read");
    } else {
        let more = why.lines.len().saturating_sub(LINES);
        line("it said", &if more > 0 { format!("({more} lines more: `imperator log {}`)", row.name) } else { String::new() });
        why.lines[more..].iter().for_each(|l| line("", l));
    }
    out
}

/// The last `most` lines.
pub(super) fn log(log: &Log, most: usize) -> String {
    let from = log.lines.len().saturating_sub(most);
    let lines: String = log.lines[from..].iter().map(|line| plain(line) + "\n").collect();
    match &log.log {
        Some(file) if log.lines.len() < most => format!("(more in {})\n{lines}", plain(file)),
        _ => lines,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stats::Figures;

    pub(in super::super) fn row(name: &str, state: State) -> Row {
        Row {
            name: name.into(),
            state,
            since: now() as i64 - 61,
            pid: (state == State::Running).then_some(77),
            uid: 0,
            gid: 0,
            config: format!("/v/{name}"),
            restarts: 2,
            last_exit: Some("pid 5 ended with exit code 22".into()),
            last_line: Some("ModuleNotFoundError: No module named 'x'".into()),
            next_try: (state == State::Throttled).then(|| now() as i64 + 8),
            reason: None,
            on_demand: None,
            figures: (state == State::Running).then(|| Figures { workers: 4, busy: 1, requests: 9, rss: 1 << 20, ..Figures::default() }),
        }
    }

    #[test]
    fn a_table_of_vassals() {
        let all = Ps {
            version: "1".into(),
            pid: 1,
            since: 0,
            sources: vec!["/v".into()],
            vassals: vec![row("a.ini", State::Running), row("b.ini", State::Throttled)],
        };
        let text = ps(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("NAME ") && lines[0].ends_with("LAST ERROR"), "{text}");
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words[..8], ["a.ini", "running", "1", "min", "77", "4", "1", "9"]);
        assert!(lines[2].contains("throttled") && lines[2].contains("No module named"), "{text}");
        assert!(ps(&Ps { vassals: vec![], ..all }).contains("watches /v"));
    }

    #[test]
    fn the_story_of_a_vassal_that_does_not_start() {
        let story = Why {
            row: row("b.ini", State::Throttled),
            last_exit_at: Some(now() as i64 - 3),
            loyal: false,
            trouble: Some("it is broken".into()),
            advice: vec!["mend it".into()],
            lines: vec!["Traceback\u{1b}".into()],
            log: None,
        };
        let text = why(&story);
        for part in [
            "trouble    it is broken",
            "throttled, since 1 min",
            "exit code 22 (3 s ago)",
            "what to do mend it",
            "next try",
            "Traceback\\u{1b}",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn the_end_of_a_log() {
        let all = Log { name: "a.ini".into(), lines: vec!["one".into(), "two".into()], log: Some("/l/a.log".into()) };
        assert_eq!(log(&all, 1), "two\n");
        assert_eq!(log(&all, 20), "(more in /l/a.log)\none\ntwo\n");
    }
}
