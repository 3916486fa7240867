//! How the values of options are read: uWSGI's rules where they make sense, an error where it would silently take a zero.

/// A value without the blank and comment at its end (`60 ; a minute`). Only for values that cannot hold a `;` or `#`: strings keep theirs, as in uWSGI.
pub fn without_comment(value: &str) -> &str {
    let bytes = value.as_bytes();
    let blank_before = |at: usize| at == 0 || matches!(bytes[at - 1], b' ' | b'\t');
    let end = (0..bytes.len()).find(|&at| matches!(bytes[at], b';' | b'#') && blank_before(at)).unwrap_or(bytes.len());
    value[..end].trim()
}

/// True unless it says no.
pub fn flag(value: Option<&str>) -> bool {
    !value.is_some_and(|value| is_false(without_comment(value)))
}

/// `false`, `off`, `no` (any case) or `0`.
pub fn is_false(word: &str) -> bool {
    word == "0" || ["false", "off", "no"].iter().any(|no| word.eq_ignore_ascii_case(no))
}

/// A word that only a flag would be given.
pub fn is_true(word: &str) -> bool {
    ["true", "on", "yes"].iter().any(|yes| word.eq_ignore_ascii_case(yes))
}

/// A number that is not negative. Digits at the start count, the rest is ignored, as in uWSGI; an absent value is 1; the words and the emptiness
/// that uWSGI takes for 0 are 0. No digit, a negative number and one that does not fit are errors.
///
/// # Errors
/// What is wrong, without the option's name.
pub fn number<T: TryFrom<u64>>(value: Option<&str>) -> Result<T, String> {
    let number = match value {
        None => 1,
        Some(value) => unsigned(without_comment(value))?,
    };
    T::try_from(number).map_err(|_| format!("`{number}` is too large"))
}

fn unsigned(value: &str) -> Result<u64, String> {
    if value.is_empty() || is_false(value) || is_true(value) {
        return Ok(0);
    }
    let (negative, digits) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    if digits.is_empty() {
        return Err(format!("`{value}` is not a number"));
    }
    if negative && digits.bytes().any(|digit| digit != b'0') {
        return Err(format!("`{value}` is negative"));
    }
    digits.parse().map_err(|_| format!("`{value}` is too large"))
}

/// A number that may be negative (a nice value).
///
/// # Errors
/// What is wrong, without the option's name.
pub fn signed(value: Option<&str>) -> Result<i32, String> {
    let value = without_comment(value.unwrap_or("1"));
    let (sign, digits) = value.strip_prefix('-').map_or((1, value), |digits| (-1, digits));
    let number = unsigned(digits)?;
    i32::try_from(number).map(|number| sign * number).map_err(|_| format!("`{value}` is too large"))
}

/// `None` for an empty value: the option is as if it were not there.
///
/// # Errors
/// No value at all.
pub fn text(value: Option<&str>) -> Result<Option<String>, String> {
    match value {
        None => Err("needs a value".into()),
        Some("") => Ok(None),
        Some(value) => Ok(Some(value.to_owned())),
    }
}

/// The permission bits of a socket: exactly three octal digits; `1`, or no value on the command line, is 666.
///
/// # Errors
/// What to write instead.
pub fn socket_mode(value: Option<&str>) -> Result<u32, String> {
    match value.map(without_comment) {
        None | Some("1") => Ok(0o666),
        Some(mode) => three_digits(mode),
    }
}

/// Three octal digits.
///
/// # Errors
/// What to write instead.
pub fn three_digits(mode: &str) -> Result<u32, String> {
    if mode.len() != 3 {
        return Err(format!("`{mode}` is no mode: write three octal digits, such as 660"));
    }
    octal(mode)
}

/// A number in base 8, 0 to 7777.
///
/// # Errors
/// What to write instead.
pub fn octal(value: &str) -> Result<u32, String> {
    Some(value)
        .filter(|value| value.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|value| u32::from_str_radix(value, 8).ok())
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("`{value}` is not an octal number, such as 022 or 660"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_values_only_behind_a_blank() {
        for (value, bare) in [("60 ; x", "60"), ("true\t# y", "true"), ("a;b", "a;b"), ("; all", ""), ("7", "7"), ("1 #", "1")] {
            assert_eq!(without_comment(value), bare, "{value}");
        }
    }

    #[test]
    fn flags_are_true_unless_they_say_no() {
        for value in [None, Some(""), Some("true"), Some("1"), Some("a.host.name"), Some("x ; false")] {
            assert!(flag(value), "{value:?}");
        }
        for value in ["false", "False", "OFF", "no", "0", "false ; x", "0 # y"] {
            assert!(!flag(Some(value)), "{value}");
        }
    }

    #[test]
    fn numbers_are_atoi_but_never_a_silent_zero() {
        for (value, expected) in [("7", 7), (" 7", 7), ("60 ; x", 60), ("60s", 60), ("+3", 3), ("true", 0), ("off", 0), ("", 0), ("-0", 0)]
        {
            assert_eq!(number::<u32>(Some(value)), Ok(expected), "{value}");
        }
        assert_eq!(number::<u32>(None), Ok(1));
        for value in ["many", "-1", "$(COUNT)", "4294967296", "99999999999999999999999", "-", "\"2\""] {
            assert!(number::<u32>(Some(value)).is_err(), "{value}");
        }
        assert_eq!((signed(Some("-5")), signed(Some("7 ; x"))), (Ok(-5), Ok(7)));
        assert!(signed(Some("--5")).is_err() && signed(Some("many")).is_err());
        assert_eq!(number::<u16>(Some("65536")), Err("`65536` is too large".into()));
    }

    #[test]
    fn modes() {
        assert_eq!(socket_mode(Some("660")), Ok(0o660));
        assert_eq!(socket_mode(Some("664 ; nginx")), Ok(0o664));
        assert_eq!(socket_mode(Some("1")), Ok(0o666));
        assert_eq!(socket_mode(None), Ok(0o666));
        for value in ["999", "0660", "true", "", "66", "+66"] {
            assert!(socket_mode(Some(value)).is_err(), "{value}");
        }
        assert_eq!(octal("022"), Ok(0o022));
        assert!(octal("88").is_err() && octal("77777").is_err());
    }
}
