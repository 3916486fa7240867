//! The variables of a uwsgi request packet: repeated (u16le length, name, u16le length, value).

/// A checked block of variables.
#[derive(Clone, Copy)]
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
        if payload.is_empty() {
            return Err(VarsError::Empty);
        }
        let mut at = 0;
        while at < payload.len() {
            let (name, next) = field(payload, at).ok_or(VarsError::Truncated(at))?;
            if name.is_empty() {
                return Err(VarsError::EmptyName(at));
            }
            (_, at) = field(payload, next).ok_or(VarsError::Truncated(next))?;
        }
        Ok(Self { payload })
    }

    /// Name and value of each variable in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + 'b {
        let payload = self.payload;
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, next) = field(payload, at)?;
            let (value, end) = field(payload, next)?;
            at = end;
            Some((name, value))
        })
    }

    /// The last variable of that name (repeated ones: the last wins).
    pub fn get(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.iter().filter(|(other, _)| *other == name).last().map(|(_, value)| value)
    }

    /// How many variables there are, repeats included.
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// The encoded block.
    pub fn payload(&self) -> &'b [u8] {
        self.payload
    }
}

fn field(payload: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let length = u16::from_le_bytes(payload.get(at..at + 2)?.try_into().ok()?) as usize;
    Some((payload.get(at + 2..at + 2 + length)?, at + 2 + length))
}

/// Appends a variable to an encoded block. Lengths are cut to the format's 65535.
pub fn push(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value] {
        let part = &part[..part.len().min(u16::MAX as usize)];
        block.extend_from_slice(&(part.len() as u16).to_le_bytes());
        block.extend_from_slice(part);
    }
}
