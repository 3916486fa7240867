//! Which bytes may stand where in HTTP (RFC 9110, 5.5 and 5.6.2).

/// Characters of a `token`: method names, header names, transfer codings.
pub(crate) const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// The letters of a header's name as a variable's: upper case, `_` for `-`.
pub(crate) const VARIABLE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = if byte == b'-' as usize { b'_' } else { (byte as u8).to_ascii_uppercase() };
        byte += 1;
    }
    table
};

/// Blanks within a line: space and tab.
pub(crate) const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether a byte may not stand in a header value: the control characters, less the tab.
pub(crate) const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// How many bytes at the start may stand in a header value.
pub(crate) fn text_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += graphic_length(&bytes[at..]);
        match bytes.get(at) {
            Some(b'\t') => at += 1,
            _ => return at,
        }
    }
}

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES * 0x80;

/// Marks the bytes of `word` that are zero. Where it marks one, it may mark bytes above it without need: the lowest mark is always a true one.
const fn zeroes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// How many bytes at the start are no control characters, a tab being one. Eight are looked at in one step.
fn graphic_length(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        // As with `zeroes`: a subtraction borrows from the next byte only where it found one.
        let marks = (word.wrapping_sub(ONES * 0x20) & !word & HIGH) | zeroes(word ^ (ONES * 0x7f));
        if marks != 0 {
            return bytes.len() - rest.len() + marks.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    bytes.len() - rest.len() + rest.iter().take_while(|&&byte| byte >= 0x20 && byte != 0x7f).count()
}

/// Whether there is a carriage return, a line feed or a NUL. Eight bytes are looked at in one step.
pub(crate) fn has_line_end(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        if zeroes(word) | zeroes(word ^ (ONES * 0x0d)) | zeroes(word ^ (ONES * 0x0a)) != 0 {
            return true;
        }
        rest = after;
    }
    rest.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// The bytes without blanks around them.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A number of digits only: no sign, no blank, at least one digit; `None` also if it does not fit.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [&b""[..], b"18446744073709551616", b"+1", b"-1", b"1 ", b" 1", b"0x1", b"1,1", b"99999999999999999999999"] {
            assert_eq!(decimal(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn blanks_are_cut_at_both_ends_only() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b""), b"");
    }

    proptest! {
        #[test]
        fn text_ends_where_a_slow_look_says(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[ -~]{0,100}") {
            let joined = [text.as_bytes(), &bytes].concat();
            let slow = joined.iter().take_while(|&&byte| (byte >= b' ' && byte != 127) || byte == b'\t').count();
            prop_assert_eq!(text_length(&joined), slow);
        }

        #[test]
        fn line_ends_are_found_wherever_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "[ -~\u{e9}]{0,40}") {
            for bytes in [&bytes[..], text.as_bytes(), &[text.as_bytes(), &bytes].concat()] {
                prop_assert_eq!(has_line_end(bytes), bytes.iter().any(|byte| b"\r\n\0".contains(byte)));
            }
        }
    }
}
