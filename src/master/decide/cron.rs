//! When a cron line is due: a function of the line, the time and the zone.

use imperator_worker::settings::Cron;

/// A line that never comes (30 February) is not looked for beyond this: leap days are eight years apart at most.
const HORIZON: i64 = 9 * 366 * DAY;
const DAY: i64 = 86_400;
const HOUR: i64 = 3600;
const MINUTE: i64 = 60;
/// A change of the clock that is larger than this is no daylight saving.
const LARGEST_CHANGE: i64 = 3 * HOUR;

/// A minute of local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wall {
    minute: i32,
    hour: i32,
    day: i32,
    month: i32,
    /// 0 is Sunday.
    week: i32,
}

/// The first minute from `from` on (epoch seconds) in which `cron` is due; `None`: never. `offset` gives the seconds east of Greenwich at a moment.
///
/// A line with an hour of its own is due once where daylight saving repeats that hour, and right after the gap where it leaves the hour out.
pub fn next_due(cron: &Cron, from: i64, offset: &dyn Fn(i64) -> i64) -> Option<i64> {
    let mut at = from + (MINUTE - from.rem_euclid(MINUTE)) % MINUTE;
    let end = at + HORIZON;
    while at < end {
        let local = at + offset(at);
        if !on_day(cron, &wall(local)) && !after_gap(cron, at, offset) {
            // To the next midnight; where the zone changes on the way, to an hour before it.
            let midnight = at + DAY - local.rem_euclid(DAY);
            at = if offset(midnight) == offset(at) { midnight } else { (at + MINUTE).max(midnight - LARGEST_CHANGE) };
            continue;
        }
        if is_due(cron, at, offset) {
            return Some(at);
        }
        at += MINUTE;
    }
    None
}

fn is_due(cron: &Cron, at: i64, offset: &dyn Fn(i64) -> i64) -> bool {
    let now = wall(at + offset(at));
    (matches(cron, &now) && !(cron.hour >= 0 && is_repeated(at, offset))) || after_gap(cron, at, offset)
}

/// This minute of local time has been before.
fn is_repeated(at: i64, offset: &dyn Fn(i64) -> i64) -> bool {
    let change = offset(at - LARGEST_CHANGE) - offset(at);
    change > 0 && offset(at - change) == offset(at) + change
}

/// The clock has just jumped over a minute in which the line was due.
fn after_gap(cron: &Cron, at: i64, offset: &dyn Fn(i64) -> i64) -> bool {
    let gap = offset(at) - offset(at - MINUTE);
    let local = at + offset(at);
    cron.hour >= 0 && (1..=LARGEST_CHANGE).contains(&gap) && (1..=gap / MINUTE).any(|m| matches(cron, &wall(local - m * MINUTE)))
}

fn matches(cron: &Cron, wall: &Wall) -> bool {
    field(cron.minute, wall.minute) && field(cron.hour, wall.hour) && on_day(cron, wall)
}

/// As in crontab: where both the day and the weekday are given, either will do.
fn on_day(cron: &Cron, wall: &Wall) -> bool {
    let (day, week) = (field(cron.day, wall.day), field(if cron.week == 7 { 0 } else { cron.week }, wall.week));
    let days = if cron.day != -1 && cron.week != -1 { day || week } else { day && week };
    field(cron.month, wall.month) && days
}

fn field(wanted: i32, there: i32) -> bool {
    match wanted {
        -1 => true,
        n if n < 0 => there % n.saturating_abs() == 0,
        n => n == there,
    }
}

/// Of seconds since 1970 in local time.
fn wall(local: i64) -> Wall {
    let (days, rest) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    // Days since 0000-03-01, in eras of 400 years; months begin with March, so that the leap day is the last of a year.
    let shifted = days + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    Wall {
        minute: (rest % HOUR / MINUTE) as i32,
        hour: (rest / HOUR) as i32,
        day: day as i32,
        month: month as i32,
        week: (days + 4).rem_euclid(7) as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(minute: i32, hour: i32, day: i32, month: i32, week: i32) -> Cron {
        Cron { minute, hour, day, month, week, ..Cron::default() }
    }

    /// Saturday, 21 November 2026, 12:34:56 UTC.
    const NOW: i64 = 1_795_264_496;
    const UTC: fn(i64) -> i64 = |_| 0;

    fn in_utc(cron: &Cron) -> Option<i64> {
        next_due(cron, NOW, &UTC).map(|at| at - (NOW - 56))
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(wall(NOW), Wall { minute: 34, hour: 12, day: 21, month: 11, week: 6 });
        assert_eq!(wall(0), Wall { minute: 0, hour: 0, day: 1, month: 1, week: 4 });
        assert_eq!(wall(951_782_400), Wall { minute: 0, hour: 0, day: 29, month: 2, week: 2 });
        for days in (0..60_000).step_by(7) {
            let local = imperator_sys::localtime::local(days * DAY);
            let here = wall(days * DAY + i64::from(local.offset));
            assert_eq!((here.day, here.month, here.week), (local.day.into(), i32::from(local.month) + 1, local.weekday.into()));
        }
    }

    #[test]
    fn the_next_minute_of_a_line() {
        assert_eq!(next_due(&line(-1, -1, -1, -1, -1), NOW - 56, &UTC), Some(NOW - 56), "this very minute");
        assert_eq!(in_utc(&line(-1, -1, -1, -1, -1)), Some(60));
        assert_eq!(in_utc(&line(-5, -1, -1, -1, -1)), Some(60));
        assert_eq!(in_utc(&line(-7, -1, -1, -1, -1)), Some(60));
        assert_eq!(in_utc(&line(0, -2, -1, -1, -1)), Some(86 * 60), "14:00");
        assert_eq!(in_utc(&line(33, -1, -1, -1, -1)), Some(59 * 60));
        assert_eq!(in_utc(&line(0, 3, -1, -1, 0)), Some((26 + 14 * 60) * 60), "Sunday, 3:00");
        assert_eq!(in_utc(&line(0, 3, -1, -1, 7)), in_utc(&line(0, 3, -1, -1, 0)));
        assert_eq!(in_utc(&line(0, 0, 1, 1, -1)), Some((26 + 11 * 60) * 60 + 40 * DAY));
    }

    #[test]
    fn day_and_weekday_together_mean_either() {
        assert_eq!(in_utc(&line(0, 0, 1, -1, 1)), Some((26 + 11 * 60) * 60 + DAY), "Monday comes before the first");
        assert_eq!(in_utc(&line(0, 0, 22, -1, 1)), Some((26 + 11 * 60) * 60), "the 22nd comes before Monday");
    }

    #[test]
    fn what_never_comes_is_never_due_and_leap_days_are() {
        assert_eq!(in_utc(&line(0, 0, 30, 2, -1)), None);
        assert_eq!(in_utc(&line(-1, -1, -1, -13, -1)), None);
        let leap = next_due(&line(0, 0, 29, 2, -1), NOW, &UTC).expect("2028");
        assert_eq!(wall(leap), Wall { minute: 0, hour: 0, day: 29, month: 2, week: 2 });
    }

    /// Berlin in 2026: summer from 29 March, 2:00 (3:00), to 25 October, 3:00 (2:00).
    fn berlin(at: i64) -> i64 {
        if (1_774_746_000..1_792_890_000).contains(&at) { 7200 } else { 3600 }
    }

    #[test]
    fn an_hour_that_is_left_out_is_made_up_for_at_once() {
        let midnight = 1_774_746_000 - 7200;
        assert_eq!(next_due(&line(30, 2, -1, -1, -1), midnight, &berlin), Some(1_774_746_000));
        assert_eq!(next_due(&line(0, 3, -1, -1, -1), midnight, &berlin), Some(1_774_746_000));
        assert_eq!(next_due(&line(30, 1, -1, -1, -1), midnight, &berlin), Some(1_774_746_000 - 1800));
        let often: Vec<i64> = minutes(&line(-30, -1, -1, -1, -1), midnight, 6).collect();
        assert!(often.windows(2).all(|pair| pair[1] - pair[0] == 1800), "{often:?}");
    }

    #[test]
    fn an_hour_that_comes_twice_counts_once_unless_every_hour_does() {
        let first = 1_792_890_000 - HOUR;
        let daily: Vec<i64> = minutes(&line(30, 2, -1, -1, -1), first, 2).collect();
        assert_eq!(daily, [first + 1800, first + 1800 + DAY + HOUR]);
        let hourly: Vec<i64> = minutes(&line(30, -1, -1, -1, -1), first, 4).collect();
        assert!(hourly.windows(2).all(|pair| pair[1] - pair[0] == HOUR), "{hourly:?}");
    }

    fn minutes(cron: &Cron, from: i64, count: usize) -> impl Iterator<Item = i64> {
        let cron = cron.clone();
        let next = move |from| next_due(&cron, from, &berlin);
        std::iter::successors(next(from), move |at| next(at + 1)).take(count)
    }
}
