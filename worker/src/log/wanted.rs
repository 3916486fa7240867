//! Which requests are logged.

use super::{Record, Via};
use crate::settings::Log;

/// All of them; with `disable-logging` only those that another option asks for.
pub(crate) fn wanted(log: &Log, record: &Record<'_>) -> bool {
    !log.disable
        || record.asked
        || (log.log_4xx && (400..500).contains(&record.status))
        || (log.log_5xx && (500..600).contains(&record.status))
        || (log.slow > 0 && record.micros / 1000 >= log.slow)
        || log.big.is_some_and(|bytes| bytes > 0 && record.body_bytes >= bytes)
        || (log.zero && record.body_bytes == 0)
        || (log.sendfile && record.via != Via::Worker)
        || (log.ioerror && record.write_errors + record.read_errors > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::record;

    #[test]
    fn a_filter_brings_back_what_it_names() {
        let off = Log { disable: true, ..Log::default() };
        let not_found = Record { status: 404, ..record(b"") };
        let slow = Record { micros: 150_000, ..record(b"") };
        assert!(wanted(&Log::default(), &not_found));
        assert!(!wanted(&off, &not_found));
        assert!(wanted(&Log { log_4xx: true, ..off.clone() }, &not_found));
        assert!(!wanted(&Log { log_5xx: true, ..off.clone() }, &not_found));
        assert!(wanted(&Log { slow: 100, ..off.clone() }, &slow));
        assert!(!wanted(&Log { slow: 200, ..off.clone() }, &slow));
        assert!(wanted(&Log { big: Some(5), ..off.clone() }, &slow));
        assert!(!wanted(&Log { big: Some(6), ..off.clone() }, &slow));
        assert!(!wanted(&Log { big: Some(0), ..off.clone() }, &slow));
        assert!(wanted(&off, &Record { asked: true, ..record(b"") }));
        assert!(wanted(&Log { zero: true, ..off.clone() }, &Record { body_bytes: 0, ..record(b"") }));
        assert!(wanted(&Log { sendfile: true, ..off.clone() }, &Record { via: Via::Sendfile, ..record(b"") }));
        assert!(wanted(&Log { ioerror: true, ..off }, &Record { write_errors: 1, ..record(b"") }));
    }
}
