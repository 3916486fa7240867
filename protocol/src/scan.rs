//! Where a run of bytes ends, looking at eight or sixteen in one step.

use crate::bytes::is_token;

const ONES: u64 = u64::MAX / 0xff;
const HIGH: u64 = ONES * 0x80;

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

/// How many bytes at the start are no control characters, a tab being one.
fn graphic_length(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    // The compiler makes a few vector instructions of this; where in the block it was, the words tell.
    while let Some((block, after)) = rest.split_first_chunk::<16>() {
        if block.iter().fold(false, |any, &byte| any | (byte < b' ') | (byte == 0x7f)) {
            break;
        }
        rest = after;
    }
    bytes.len() - rest.len() + unmarked(rest, |word| below(word, b' ') | equal(word, 0x7f))
}

/// How many bytes at the start may stand in a request target. The fragment that `#` begins is the client's own.
pub(crate) fn target_length(bytes: &[u8]) -> usize {
    unmarked(bytes, |word| below(word, b' ' + 1) | equal(word, 0x7f) | equal(word, b'#'))
}

/// How many bytes at the start are a token; `other` hears of each that is neither a letter nor a dash.
pub(crate) fn token_length(bytes: &[u8], mut other: impl FnMut(u8)) -> usize {
    let mut at = 0;
    loop {
        at += unmarked(&bytes[at..], other_than_letters);
        match bytes.get(at) {
            Some(&byte) if is_token(byte) => other(byte),
            _ => return at,
        }
        at += 1;
    }
}

/// Where that byte is first.
pub(crate) fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    let at = unmarked(bytes, |word| equal(word, wanted));
    (at < bytes.len()).then_some(at)
}

/// Whether there is a carriage return, a line feed or a NUL.
pub(crate) fn has_line_end(bytes: &[u8]) -> bool {
    unmarked(bytes, |word| zeroes(word) | equal(word, b'\r') | equal(word, b'\n')) < bytes.len()
}

/// How many bytes come before the first that is marked. `marks` sets the high bit of bytes in a word; the lowest that it sets must be
/// a true one.
fn unmarked(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return bytes.len() - rest.len() + first(marks);
        }
        rest = after;
    }
    if rest.is_empty() {
        return bytes.len();
    }
    // The last eight: those of them that were looked at before are not marked.
    if let Some(word) = bytes.last_chunk() {
        return bytes.len() - 8 + first(marks(u64::from_le_bytes(*word)));
    }
    let mut word = [0; 8];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    first(marks(u64::from_le_bytes(word))).min(bytes.len())
}

/// The index of the first byte that is marked; 8 without one.
const fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Marks the bytes that are zero. Where it marks one, it may mark bytes above it without need, as the subtraction borrows from them.
const fn zeroes(word: u64) -> u64 {
    below(word, 1)
}

/// Marks the bytes that are `byte`, with the same reserve.
const fn equal(word: u64, byte: u8) -> u64 {
    zeroes(word ^ (ONES * byte as u64))
}

/// Marks the bytes below `limit`, which is at most 0x80, with the same reserve.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & HIGH
}

/// Marks the bytes that are neither ASCII letters nor dashes. No byte's sum carries into the next.
const fn other_than_letters(word: u64) -> u64 {
    let lower = (word | (ONES * 0x20)) & !HIGH;
    let from_a = lower + ONES * (0x80 - b'a' as u64);
    let beyond_z = lower + ONES * (0x7f - b'z' as u64);
    let dash = word ^ (ONES * b'-' as u64);
    let no_dash = ((dash & !HIGH) + !HIGH) | dash;
    ((!from_a | beyond_z) & no_dash | word) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each byte at each place of words that are otherwise plain, and the plain ones alone.
    fn everywhere(check: impl Fn(&[u8])) {
        for length in 0..=40 {
            let plain = vec![b'a'; length];
            check(&plain);
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = plain.clone();
                bytes[at] = byte;
                check(&bytes);
            }
        }
    }

    fn agree_with_a_slow_look(bytes: &[u8]) {
        let run = |belongs: fn(u8) -> bool| bytes.iter().take_while(|&&byte| belongs(byte)).count();
        assert_eq!(text_length(bytes), run(|byte| byte >= b' ' && byte != 127 || byte == b'\t'), "{bytes:?}");
        assert_eq!(target_length(bytes), run(|byte| byte > b' ' && byte != 127 && byte != b'#'), "{bytes:?}");
        let mut others = vec![];
        let tokens = token_length(bytes, |byte| others.push(byte));
        assert_eq!(tokens, run(is_token), "{bytes:?}");
        let expected = bytes[..tokens].iter().filter(|byte| !byte.is_ascii_alphabetic() && **byte != b'-');
        assert!(others.iter().eq(expected), "{bytes:?}");
        assert_eq!(has_line_end(bytes), bytes.iter().any(|byte| b"\r\n\0".contains(byte)), "{bytes:?}");
        for wanted in [0, b'%', b'?', 0x80, 0xff] {
            assert_eq!(find(bytes, wanted), bytes.iter().position(|&byte| byte == wanted), "{bytes:?}");
        }
    }

    #[test]
    fn every_byte_is_seen_at_every_place() {
        everywhere(agree_with_a_slow_look);
    }

    proptest! {
        #[test]
        fn runs_end_where_a_slow_look_says(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in "[ -~\t\u{e9}]{0,80}") {
            agree_with_a_slow_look(&bytes);
            agree_with_a_slow_look(text.as_bytes());
            agree_with_a_slow_look(&[text.as_bytes(), &bytes].concat());
        }
    }
}
