//! Conditional requests (RFC 9110, 13.2.2).

use std::time::SystemTime;

use imperator_protocol::http::tags::{Comparison, lists};

use super::asked::Asked;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Met,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Whether a file with that strong tag and that time, in whole seconds, is to be sent.
pub(super) fn condition(asked: &Asked<'_>, tag: &str, modified: SystemTime) -> Condition {
    let tag = tag.as_bytes();
    let failed = match (asked.if_match, asked.if_unmodified_since) {
        (Some(list), _) => !lists(list, tag, Comparison::Strong),
        (None, Some(since)) => date(since).is_some_and(|since| modified > since),
        (None, None) => false,
    };
    let unchanged = match (asked.if_none_match, asked.if_modified_since) {
        (Some(list), _) => lists(list, tag, Comparison::Weak),
        (None, Some(since)) => date(since).is_some_and(|since| modified <= since),
        (None, None) => false,
    };
    match (failed, unchanged) {
        (true, _) => Condition::Failed,
        (false, true) => Condition::NotModified,
        (false, false) => Condition::Met,
    }
}

/// Whether Range counts: the client has parts of this very file.
pub(super) fn range_holds(if_range: Option<&[u8]>, tag: &str, modified: SystemTime) -> bool {
    let Some(text) = if_range else { return true };
    if text.contains(&b'"') { lists(text, tag.as_bytes(), Comparison::Strong) } else { date(text) == Some(modified) }
}

/// In any of the three forms.
fn date(text: &[u8]) -> Option<SystemTime> {
    std::str::from_utf8(text).ok().and_then(|text| httpdate::parse_http_date(text.trim()).ok())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const ANY: &[u8] = b"*";
    const OTHER: &[u8] = b"\"other\"";
    const TAG: &str = "\"1-7\"";
    /// 784111777 in the three forms, and a second before it.
    const DATES: [&[u8]; 3] = [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"];
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";

    fn modified() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn of(change: impl FnOnce(&mut Asked<'_>)) -> Condition {
        let mut asked = Asked::default();
        change(&mut asked);
        condition(&asked, TAG, modified())
    }

    #[test]
    fn dates_count_in_every_form() {
        for date in DATES {
            assert_eq!(of(|a| a.if_modified_since = Some(date)), Condition::NotModified);
            assert_eq!(of(|a| a.if_unmodified_since = Some(date)), Condition::Met);
            assert!(range_holds(Some(date), TAG, modified()));
        }
        assert_eq!(of(|a| a.if_modified_since = Some(BEFORE)), Condition::Met);
        assert_eq!(of(|a| a.if_unmodified_since = Some(BEFORE)), Condition::Failed);
        assert!(!range_holds(Some(BEFORE), TAG, modified()));
        for nonsense in [&b"no date"[..], b"", b"\xff"] {
            assert_eq!(of(|a| a.if_modified_since = Some(nonsense)), Condition::Met);
            assert_eq!(of(|a| a.if_unmodified_since = Some(nonsense)), Condition::Met);
            assert!(!range_holds(Some(nonsense), TAG, modified()));
        }
    }

    #[test]
    fn tags_come_before_dates() {
        assert_eq!(of(|a| a.if_none_match = Some(b"W/\"1-7\"")), Condition::NotModified);
        assert_eq!(of(|a| a.if_none_match = Some(b"*")), Condition::NotModified);
        assert_eq!(of(|a| (a.if_none_match, a.if_modified_since) = (Some(OTHER), Some(DATES[0]))), Condition::Met);
        assert_eq!(of(|a| a.if_match = Some(b"\"1-7\"")), Condition::Met);
        assert_eq!(of(|a| a.if_match = Some(b"W/\"1-7\"")), Condition::Failed, "a strong comparison");
        assert_eq!(of(|a| (a.if_match, a.if_unmodified_since) = (Some(ANY), Some(BEFORE))), Condition::Met);
        assert_eq!(of(|a| (a.if_match, a.if_none_match) = (Some(OTHER), Some(ANY))), Condition::Failed);
        assert!(range_holds(None, TAG, modified()) && range_holds(Some(TAG.as_bytes()), TAG, modified()));
        assert!(!range_holds(Some(b"W/\"1-7\""), TAG, modified()) && !range_holds(Some(b"\"2-7\""), TAG, modified()));
    }
}
