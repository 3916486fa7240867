//! Local time, as the C library knows it (TZ, /etc/localtime).

use std::ffi::CStr;

/// A moment in the local time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Four digits (the C library's plus 1900).
    pub year: i32,
    /// 0 to 11.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// Seconds east of Greenwich.
    pub offset: i32,
}

/// The local time at `epoch` seconds; the epoch itself if the C library cannot say.
pub fn local(epoch: i64) -> Local {
    let tm = raw(epoch);
    Local {
        year: tm.tm_year.saturating_add(1900),
        month: tm.tm_mon.clamp(0, 11) as u8,
        day: tm.tm_mday.clamp(1, 31) as u8,
        hour: tm.tm_hour.clamp(0, 23) as u8,
        minute: tm.tm_min.clamp(0, 59) as u8,
        second: tm.tm_sec.clamp(0, 60) as u8,
        weekday: tm.tm_wday.clamp(0, 6) as u8,
        offset: i32::try_from(tm.tm_gmtoff).unwrap_or(0),
    }
}

/// Appends the local time at `epoch` in `format`, strftime's; at most 512 bytes.
pub fn strftime(format: &CStr, epoch: i64, out: &mut Vec<u8>) {
    let tm = raw(epoch);
    let mut text = [0u8; 512];
    // SAFETY: `text` has room for 512 bytes, `format` ends with a NUL, `tm` was filled by localtime_r or is all zero but for its day.
    let length = unsafe { libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const tm) };
    out.extend_from_slice(&text[..length.min(text.len())]);
}

fn raw(epoch: i64) -> libc::tm {
    // SAFETY: `tm` is a plain C structure for which all zero is a value.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    tm.tm_mday = 1;
    tm.tm_year = 70;
    let time: libc::time_t = epoch;
    // SAFETY: both pointers are to live values of the right types.
    unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    tm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_strftime_agree() {
        let now = 1_795_252_671;
        let l = local(now);
        let mut text = vec![];
        strftime(c"%Y-%m-%d %H:%M:%S %w", now, &mut text);
        let expected = format!("{}-{:02}-{:02} {:02}:{:02}:{:02} {}", l.year, l.month + 1, l.day, l.hour, l.minute, l.second, l.weekday);
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }
}
