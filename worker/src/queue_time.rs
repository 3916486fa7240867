//! When a front end took a request, as front ends write it.

/// A request that is said to have waited longer has a front end with another clock, or a client that makes things up. Microseconds.
const LONGEST: u64 = 3_600_000_000;
/// Epoch seconds, milliseconds and microseconds of our times are told apart by their size: these are the year 2001's.
const MILLIS: u64 = 1_000_000_000_000;
const MICROS: u64 = 1_000_000_000_000_000;

/// Microseconds from the time in `value` to `now` (epoch microseconds); 0 if that is still to come by the front end's clock.
///
/// nginx's `$msec` (`1700000000.123`), and whole seconds, milliseconds or microseconds; with or without `t=` before it, as Heroku and New Relic
/// write it. `None`: it is no such time, or longer ago than an hour.
pub(crate) fn waited(value: &[u8], now: u64) -> Option<u64> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"t=").unwrap_or(value);
    let (whole, fraction) = match value.iter().position(|b| *b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let whole = digits(whole)?;
    let unit = match whole {
        MICROS.. => 1,
        MILLIS.. => 1_000,
        _ => 1_000_000,
    };
    let start = whole.checked_mul(unit)?.checked_add(part(fraction, unit)?)?;
    // Clocks of two machines differ by a little.
    Some(now.saturating_sub(start)).filter(|waited| *waited <= LONGEST && start <= now.saturating_add(LONGEST))
}

fn digits(text: &[u8]) -> Option<u64> {
    let valid = (1..=19).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    valid.then(|| text.iter().fold(0, |n: u64, digit| n * 10 + u64::from(digit - b'0')))
}

/// What stands behind the point, in microseconds of a unit that has `unit` of them.
fn part(text: &[u8], unit: u64) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let text = &text[..text.len().min(6)];
    Some(digits(text)? * unit / 10u64.pow(text.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_002_500_000;

    #[test]
    fn every_way_to_write_it() {
        for text in ["1700000000.123", "t=1700000000.123", "1700000000123", "t=1700000000123", "1700000000123000", " 1700000000.123000 "] {
            assert_eq!(waited(text.as_bytes(), NOW), Some(2_377_000), "{text}");
        }
        assert_eq!(waited(b"1700000000", NOW), Some(2_500_000));
        assert_eq!(waited(b"1700000003", NOW), Some(0), "the front end's clock is ahead");
    }

    #[test]
    fn what_is_no_time_counts_for_nothing() {
        for text in
            ["", "t=", "-1", "1.7e9", "x", "1700000000.x", "99999999999999999999", "12", "1600000000", "1800000000", "18446744073709551615"]
        {
            assert_eq!(waited(text.as_bytes(), NOW), None, "{text}");
        }
    }
}
