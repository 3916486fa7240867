//! Times of log lines, in local time.

use std::ffi::CStr;
use std::io::Write as _;

use imperator_sys::localtime::{Local, local, strftime};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Remembers the last second's calendar and texts.
#[derive(Default)]
pub(crate) struct Times {
    last: Option<(u64, Local)>,
    ctime: Text,
    ltime: Text,
}

/// The text of a second; empty at first.
#[derive(Default)]
struct Text {
    second: u64,
    bytes: Vec<u8>,
}

impl Text {
    fn anew(&mut self, second: u64) -> &mut Vec<u8> {
        self.second = second;
        self.bytes.clear();
        &mut self.bytes
    }
}

impl Times {
    fn at(&mut self, epoch: u64) -> Local {
        match self.last {
            Some((second, calendar)) if second == epoch => calendar,
            _ => {
                let calendar = local(i64::try_from(epoch).unwrap_or(0));
                self.last = Some((epoch, calendar));
                calendar
            }
        }
    }

    /// `Sat Nov 21 09:29:00 2026`
    pub fn ctime(&mut self, epoch: u64, out: &mut Vec<u8>) {
        if self.ctime.bytes.is_empty() || self.ctime.second != epoch {
            let t = self.at(epoch);
            let (day, month) = (DAYS[usize::from(t.weekday)], MONTHS[usize::from(t.month)]);
            let text = self.ctime.anew(epoch);
            let _ = write!(text, "{day} {month} {:2} {:02}:{:02}:{:02} {}", t.day, t.hour, t.minute, t.second, t.year);
        }
        out.extend_from_slice(&self.ctime.bytes);
    }

    /// `21/Nov/2026:09:28:59 +0000`, as Apache's logs.
    pub fn ltime(&mut self, epoch: u64, out: &mut Vec<u8>) {
        if self.ltime.bytes.is_empty() || self.ltime.second != epoch {
            let t = self.at(epoch);
            let (sign, minutes) = if t.offset < 0 { ('-', -t.offset / 60) } else { ('+', t.offset / 60) };
            let month = MONTHS[usize::from(t.month)];
            let text = self.ltime.anew(epoch);
            let _ = write!(text, "{:02}/{month}/{}:{:02}:{:02}:{:02} ", t.day, t.year, t.hour, t.minute, t.second);
            let _ = write!(text, "{sign}{:02}{:02}", minutes / 60, minutes % 60);
        }
        out.extend_from_slice(&self.ltime.bytes);
    }

    pub fn strftime(&mut self, format: &CStr, epoch: u64, out: &mut Vec<u8>) {
        strftime(format, i64::try_from(epoch).unwrap_or(0), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_are_ctimes_and_apaches() {
        let (mut ctime, mut ltime, mut same) = (vec![], vec![], vec![]);
        let mut times = Times::default();
        times.ctime(1_795_252_671, &mut ctime);
        times.ltime(1_795_252_671, &mut ltime);
        times.strftime(c"%a %b %e %H:%M:%S %Y", 1_795_252_671, &mut same);
        assert_eq!(ctime, same);
        same.clear();
        times.strftime(c"%d/%b/%Y:%H:%M:%S %z", 1_795_252_671, &mut same);
        assert_eq!(ltime, same);
    }

    #[test]
    fn a_second_is_said_again_and_the_next_one_is_another() {
        let (mut times, mut texts) = (Times::default(), vec![]);
        for second in [1_795_252_671, 1_795_252_671, 1_795_252_672] {
            let (mut ctime, mut ltime) = (vec![], vec![]);
            times.ctime(second, &mut ctime);
            times.ltime(second, &mut ltime);
            texts.push((ctime, ltime));
        }
        assert_eq!(texts[0], texts[1]);
        assert!(texts[1].0 != texts[2].0 && texts[1].1 != texts[2].1);
    }
}
