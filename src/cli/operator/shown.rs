//! How figures stand in a table: short, in units that people read.

use std::time::{SystemTime, UNIX_EPOCH};

/// Epoch seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// `512 B`, `34.0 MiB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `81 us`, `12.3 ms`, `4.50 s`.
pub(super) fn micros(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} us"),
        1_000..1_000_000 => format!("{:.1} ms", n as f64 / 1e3),
        _ => format!("{:.2} s", n as f64 / 1e6),
    }
}

/// `9 s`, `3 min`, `5 h 12 min`, `4 d 2 h`.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Text from elsewhere for a terminal: what steers one is shown and not sent.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(35_651_584), bytes(u64::MAX)],
            ["0 B", "1023 B", "1.0 KiB", "34.0 MiB", "16777216.0 TiB"]
        );
        assert_eq!([micros(81), micros(12_300), micros(4_500_000)], ["81 us", "12.3 ms", "4.50 s"]);
        assert_eq!([span(9), span(200), span(18_720), span(352_900)], ["9 s", "3 min", "5 h 12 min", "4 d 2 h"]);
    }

    #[test]
    fn a_hostile_uri_does_not_reach_the_terminal() {
        assert_eq!(plain("GET /\u{1b}[2Jx\u{9b}é"), "GET /\\u{1b}[2Jx\\u{9b}é");
    }
}
