//! The variables of a uwsgi request packet: repeated (u16le length, name, u16le length, value).

/// A checked block of variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vars<'b> {
    payload: &'b [u8],
}

/// What is wrong with a block of variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarsError {
    #[error("a variable runs past the end of the packet at byte {0}")]
    Truncated(usize),
    #[error("an empty variable name at byte {0}")]
    EmptyName(usize),
    #[error("no variables at all")]
    Empty,
}

impl<'b> Vars<'b> {
    /// Checks the whole block once, so that iterating cannot fail.
    pub fn parse(payload: &'b [u8]) -> Result<Self, VarsError> {
        Self::parse_with(payload, |_, _| {})
    }

    /// A block that was put together with [`push`] a moment ago: it is taken at its word. (One that is not well-formed seems to end early.)
    pub fn made(payload: &'b [u8]) -> Self {
        Self { payload }
    }

    /// As [`Self::parse`]; `each` gets name and value of every variable on the way.
    pub fn parse_with(payload: &'b [u8], mut each: impl FnMut(&'b [u8], &'b [u8])) -> Result<Self, VarsError> {
        if payload.is_empty() {
            return Err(VarsError::Empty);
        }
        let mut rest = payload;
        while !rest.is_empty() {
            let at = payload.len() - rest.len();
            let (name, after_name) = field(rest).ok_or(VarsError::Truncated(at))?;
            if name.is_empty() {
                return Err(VarsError::EmptyName(at));
            }
            let (value, after_value) = field(after_name).ok_or(VarsError::Truncated(payload.len() - after_name.len()))?;
            each(name, value);
            rest = after_value;
        }
        Ok(Self { payload })
    }

    /// Name and value of each variable in the order of the packet.
    pub fn iter(&self) -> Iter<'b> {
        Iter { rest: self.payload }
    }

    /// The last variable of that name (repeated ones: the last wins). It walks the block:
    /// whoever wants many of them iterates once.
    pub fn get(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.iter().filter(|(other, _)| *other == name).last().map(|(_, value)| value)
    }

    /// How many variables there are, repeats included; never 0.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// The encoded block.
    pub fn payload(&self) -> &'b [u8] {
        self.payload
    }
}

impl<'b> IntoIterator for Vars<'b> {
    type Item = (&'b [u8], &'b [u8]);
    type IntoIter = Iter<'b>;

    fn into_iter(self) -> Iter<'b> {
        self.iter()
    }
}

/// The variables of a block that was checked.
#[derive(Debug, Clone)]
pub struct Iter<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Iter<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = field(self.rest)?;
        let (value, rest) = field(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// The field at the start of `bytes`, and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// Appends a variable to an encoded block. Lengths are cut to the format's 65535.
pub fn push(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        let part = &part[..part.len().min(usize::from(u16::MAX))];
        block.extend_from_slice(&(part.len() as u16).to_le_bytes());
        block.extend_from_slice(part);
    }
}

/// The number that the variable CONTENT_LENGTH stands for, read as uWSGI reads it: the digits at its start (`3abc` is 3, `-3`
/// and nothing are 0). A number that does not fit is the largest one, which every limit refuses.
///
/// This is for packets, where the front end has checked it already; the HTTP parser takes numbers only.
pub fn content_length(value: &[u8]) -> u64 {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, byte| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in pairs {
            push(&mut block, name, value);
        }
        block
    }

    #[test]
    fn every_malformed_block_is_told_apart() {
        let broken: [(&[u8], VarsError); 8] = [
            (b"", VarsError::Empty),
            (b"\x01", VarsError::Truncated(0)),
            (b"\x01\x00", VarsError::Truncated(0)),
            (b"\x00\x00\x01\x00x", VarsError::EmptyName(0)),
            (b"\x01\x00A", VarsError::Truncated(3)),
            (b"\x01\x00A\x02\x00x", VarsError::Truncated(3)),
            (b"\x01\x00A\x00\x00\xff\xffB", VarsError::Truncated(5)),
            (b"\x01\x00A\x00\x00\x00\x00", VarsError::EmptyName(5)),
        ];
        for (block, error) in broken {
            assert_eq!(Vars::parse(block), Err(error), "{block:?}");
        }
    }

    #[test]
    fn an_empty_value_is_fine_and_the_last_repeat_wins() {
        let block = encode(&[(b"A".into(), b"".into()), (b"B".into(), b"1".into()), (b"B".into(), b"2".into())]);
        let vars = Vars::parse(&block).expect("well formed");
        assert_eq!(vars.count(), 3);
        assert_eq!((vars.get(b"A"), vars.get(b"B"), vars.get(b"C")), (Some(&b""[..]), Some(&b"2"[..]), None));
        assert_eq!(vars.payload(), block);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let block = encode(&[(vec![b'n'; 65_536], vec![b'v'; 70_000])]);
        let vars = Vars::parse(&block).expect("well formed");
        assert_eq!(vars.iter().map(|(name, value)| (name.len(), value.len())).collect::<Vec<_>>(), [(65_535, 65_535)]);
    }

    #[test]
    fn content_length_is_the_digits_at_the_start() {
        let cases: [(&[u8], u64); 7] =
            [(b"3abc", 3), (b"-3", 0), (b"", 0), (b"007", 7), (b"+1", 0), (b" 5", 0), (b"99999999999999999999999", u64::MAX)];
        for (value, number) in cases {
            assert_eq!(content_length(value), number, "{value:?}");
        }
    }

    fn pairs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        let bytes = |range| proptest::collection::vec(any::<u8>(), range);
        proptest::collection::vec((bytes(1..20), bytes(0..300)), 1..20)
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_read(pairs in pairs()) {
            let block = encode(&pairs);
            let vars = Vars::parse(&block).expect("well formed");
            prop_assert_eq!(vars.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>(), pairs.clone());
            prop_assert_eq!(vars.count(), pairs.len());
            for (name, _) in &pairs {
                let last = pairs.iter().rfind(|(other, _)| other == name).map(|(_, value)| &value[..]);
                prop_assert_eq!(vars.get(name), last);
            }
        }

        #[test]
        fn a_block_that_is_cut_off_within_a_variable_is_refused(pairs in pairs(), cut in any::<proptest::sample::Index>()) {
            let block = encode(&pairs);
            let ends: Vec<usize> = (1..=pairs.len()).map(|count| encode(&pairs[..count]).len()).collect();
            let end = cut.index(block.len());
            prop_assert_eq!(Vars::parse(&block[..end]).is_ok(), ends.contains(&end));
        }

        #[test]
        fn whatever_is_accepted_is_the_encoding_of_what_was_read(block in proptest::collection::vec(0u8..4, 0..60)) {
            if let Ok(vars) = Vars::parse(&block) {
                let mut again = Vec::new();
                vars.into_iter().for_each(|(name, value)| push(&mut again, name, value));
                prop_assert_eq!(again, block);
            }
        }
    }
}
