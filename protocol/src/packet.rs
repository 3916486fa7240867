//! The uwsgi packet: a header of four bytes (modifier1, datasize as u16 little-endian, modifier2), then `datasize` bytes.

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 4;

/// The most that a packet can carry, and so the most that `buffer-size` can be.
pub const MAX_DATASIZE: usize = u16::MAX as usize;

/// Modifiers met in practice: who is to handle the packet.
pub mod modifier {
    /// A Python (WSGI) request.
    pub const PYTHON: u8 = 0;
    pub const PERL: u8 = 5;
    pub const LUA: u8 = 6;
    pub const RUBY: u8 = 7;
    pub const CGI: u8 = 9;
    pub const PHP: u8 = 14;
    pub const SPOOLER: u8 = 17;
    /// Calls a C function.
    pub const SYMCALL: u8 = 18;
    /// Evaluates code that the packet carries.
    pub const EVAL: u8 = 22;
    /// Python with SCRIPT_NAME taken off PATH_INFO.
    pub const PYTHON_MOUNTED: u8 = 30;
    pub const MESSAGE: u8 = 31;
    pub const MESSAGE_ARRAY: u8 = 32;
    pub const MESSAGE_MARSHAL: u8 = 33;
    /// `HTTP`: the packet is an HTTP response.
    pub const HTTP_RESPONSE: u8 = 72;
    pub const PING: u8 = 100;
    pub const ECHO: u8 = 101;
    pub const LEGION: u8 = 109;
    pub const SIGNAL: u8 = 110;
    pub const CACHE: u8 = 111;
    pub const RPC: u8 = 173;
    /// Marks a connection that is to be closed.
    pub const CLOSE: u8 = 200;
    pub const SUBSCRIPTION: u8 = 224;
    /// A response to any of these.
    pub const RESPONSE: u8 = 255;
}

/// The header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub modifier1: u8,
    /// Bytes that follow.
    pub datasize: u16,
    pub modifier2: u8,
}

/// Why a packet is refused. Answer with status 431.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid request block size: {size} (max {max})...skip")]
pub struct TooLarge {
    pub size: u16,
    pub max: usize,
}

impl Header {
    /// The header at the start of `input`; `None` if there are not four bytes yet.
    pub fn parse(input: &[u8]) -> Option<Self> {
        let &[modifier1, low, high, modifier2] = input.first_chunk()?;
        Some(Self { modifier1, datasize: u16::from_le_bytes([low, high]), modifier2 })
    }

    /// The four bytes of the header.
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let [low, high] = self.datasize.to_le_bytes();
        [self.modifier1, low, high, self.modifier2]
    }

    /// Bytes of header and payload.
    pub fn packet_length(self) -> usize {
        HEADER_LENGTH + usize::from(self.datasize)
    }
}

/// A whole packet at the start of a buffer; what follows it is the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'b> {
    pub header: Header,
    pub payload: &'b [u8],
}

impl<'b> Packet<'b> {
    /// The packet at the start of `input`; `None` if it is not all there yet. `max` is `buffer-size`: a payload of exactly
    /// that size is taken. One that is larger is refused as soon as its header is there.
    pub fn parse(input: &'b [u8], max: usize) -> Result<Option<Self>, TooLarge> {
        let Some(header) = Header::parse(input) else { return Ok(None) };
        if usize::from(header.datasize) > max {
            return Err(TooLarge { size: header.datasize, max });
        }
        Ok(input.get(HEADER_LENGTH..header.packet_length()).map(|payload| Self { header, payload }))
    }

    /// Bytes of header and payload: where the body starts.
    pub fn length(&self) -> usize {
        self.header.packet_length()
    }
}

/// The answer to a ping. A warning that is set goes with it, cut to the format's 65535 bytes.
pub fn push_ping_reply(out: &mut Vec<u8>, warning: &[u8]) {
    let warning = &warning[..warning.len().min(MAX_DATASIZE)];
    out.extend_from_slice(&Header { modifier1: modifier::PING, datasize: warning.len() as u16, modifier2: 1 }.encode());
    out.extend_from_slice(warning);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_ping_is_answered_in_four_bytes() {
        let mut out = Vec::new();
        push_ping_reply(&mut out, b"");
        assert_eq!(out, [0x64, 0, 0, 1]);
    }

    #[test]
    fn a_warning_goes_with_the_ping() {
        let mut out = Vec::new();
        push_ping_reply(&mut out, b"full");
        assert_eq!(out, *b"\x64\x04\x00\x01full");
        out.clear();
        push_ping_reply(&mut out, &[b'w'; 70_000]);
        assert_eq!(out.len(), HEADER_LENGTH + MAX_DATASIZE);
    }

    #[test]
    fn exactly_buffer_size_is_taken_and_one_more_is_not() {
        let input = [0, 0, 16, 0];
        assert_eq!(Packet::parse(&input, 4096), Ok(None));
        assert_eq!(Packet::parse(&input, 4095), Err(TooLarge { size: 4096, max: 4095 }));
        assert_eq!(TooLarge { size: 4096, max: 4095 }.to_string(), "invalid request block size: 4096 (max 4095)...skip");
    }

    proptest! {
        #[test]
        fn a_header_survives(modifier1: u8, datasize: u16, modifier2: u8) {
            let header = Header { modifier1, datasize, modifier2 };
            prop_assert_eq!(Header::parse(&header.encode()), Some(header));
        }

        #[test]
        fn a_packet_is_there_when_its_last_byte_is(payload in proptest::collection::vec(any::<u8>(), 0..300), body in proptest::collection::vec(any::<u8>(), 0..20)) {
            let header = Header { modifier1: 0, datasize: payload.len() as u16, modifier2: 7 };
            let input = [&header.encode()[..], &payload, &body].concat();
            for end in 0..input.len() {
                let parsed = Packet::parse(&input[..end], MAX_DATASIZE).expect("small enough");
                prop_assert_eq!(parsed, (end >= header.packet_length()).then_some(Packet { header, payload: &payload }));
            }
        }
    }
}
