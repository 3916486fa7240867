//! How keys are spread: folded multiplication, seeded in each cache.
//!
//! The same in all processes that share a segment, so a change of it changes [`crate::layout::VERSION`].

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;
const K2: u64 = 0xa076_1d64_78bd_642f;

/// The hash of a key.
#[inline]
pub(crate) fn hash(seed: u64, key: &[u8]) -> u64 {
    let mut state = seed ^ K0;
    let mut pairs = key.chunks_exact(16);
    for pair in &mut pairs {
        state = fold(word(&pair[..8]) ^ K1, word(&pair[8..]) ^ state);
    }
    let rest = pairs.remainder();
    let (low, high) = rest.split_at(rest.len().min(8));
    state = fold(word(low) ^ K1, word(high) ^ state);
    fold(state ^ key.len() as u64, K2)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Up to eight bytes as a number, padded with zeros.
#[inline]
pub(crate) fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*whole);
    }
    if let (Some(low), Some(high)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let high = u64::from(u32::from_le_bytes(*high)) << (8 * (bytes.len() - 4));
        return u64::from(u32::from_le_bytes(*low)) | high;
    }
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_padded_with_zeros() {
        let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8, 9];
        for length in 0..=9 {
            let mut padded = [0; 8];
            padded[..length.min(8)].copy_from_slice(&bytes[..length.min(8)]);
            assert_eq!(word(&bytes[..length]), u64::from_le_bytes(padded), "{length}");
        }
    }

    #[test]
    fn similar_keys_are_spread_evenly() {
        for bits in [|h: u64| h & 1023, |h: u64| h >> 54] {
            let mut counts = [0u32; 1024];
            (0..102_400u32).for_each(|i| counts[bits(hash(7, format!("key:{i}").as_bytes())) as usize] += 1);
            assert!(counts.iter().all(|count| (50..=160).contains(count)), "{:?}", (counts.iter().min(), counts.iter().max()));
        }
    }

    #[test]
    fn seeds_and_lengths_matter() {
        assert_ne!(hash(1, b"key"), hash(2, b"key"));
        let zeros = [0u8; 64];
        let mut all: Vec<u64> = (1..=64).map(|length| hash(3, &zeros[..length])).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 64);
    }

    /// Segments outlive the program that made them: a change of these values needs a new layout version.
    #[test]
    fn the_function_is_fixed() {
        assert_eq!(hash(0, b"a"), 2_923_811_763_650_280_390);
        assert_eq!(hash(0, b"0123456789abcdefXYZ"), 9_222_485_162_235_328_187);
    }
}
