//! Chunked bodies: sound ones, refused ones, and that it does not matter in what pieces they come.

use imperator_protocol::chunked::{ChunkError, Decoder, Event, MAX_EXTENSIONS, MAX_TRAILERS};
use proptest::prelude::*;

/// Feeds `input` in pieces that end at `cuts`, with output buffers of `room` bytes. Returns the body, whether it ended,
/// and how many bytes of the input it took.
fn decode(input: &[u8], cuts: &[usize], room: usize) -> Result<(Vec<u8>, bool, usize), ChunkError> {
    let mut decoder = Decoder::new();
    let (mut body, mut taken) = (Vec::new(), 0);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([input.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        loop {
            let mut output = vec![0; room];
            let progress = decoder.decode(&input[taken..end], &mut output)?;
            body.extend_from_slice(&output[..progress.produced]);
            taken += progress.consumed;
            if progress.consumed == 0 {
                break;
            }
        }
    }
    Ok((body, decoder.is_done(), taken))
}

fn whole(input: &str) -> Result<(String, bool, usize), ChunkError> {
    decode(input.as_bytes(), &[], 4096).map(|(body, done, taken)| (String::from_utf8_lossy(&body).into_owned(), done, taken))
}

fn sound(input: &str, body: &str) {
    assert_eq!(whole(input), Ok((body.to_owned(), true, input.len())), "{input:?}");
}

fn refused(error: ChunkError, inputs: &[&str]) {
    for input in inputs {
        assert_eq!(whole(input), Err(error), "{input:?}");
    }
    assert_eq!(error.to_string(), error.as_str());
}

#[test]
fn sound_bodies() {
    sound("0\r\n\r\n", "");
    sound("3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", "abc0123456789abcdef");
    sound("A\r\n0123456789\r\n000\r\n\r\n", "0123456789");
    sound("000000000000000a\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    sound("2;note=1\r\nde\r\n1 \t;a;b=\"c;d\"\r\nf\r\n0;last\r\n\r\n", "def");
    sound("1\r\na\r\n0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n", "a");
    sound("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n");
}

#[test]
fn what_follows_is_left_alone() {
    assert_eq!(whole("1\r\na\r\n0\r\n\r\nGET /"), Ok(("a".to_owned(), true, "1\r\na\r\n0\r\n\r\n".len())));
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(b"0\r\n\r\nGET"), Ok((5, Event::End)));
    assert_eq!(decoder.step(b"GET"), Ok((0, Event::End)));
}

#[test]
fn refused_bodies() {
    refused(
        ChunkError::Size,
        &[
            "\r\n",
            "x\r\n",
            ";\r\n",
            " 1\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1g\r\n",
            "1,\r\n",
            "1\0\r\n",
            "00000000000000000\r\n",
            "fffffffffffffffff\r\n",
        ],
    );
    refused(ChunkError::LineEnd, &["1\n", "1\rx", "1\r\r\n", "1;a\n", "0\r\nA: b\n", "0\r\nA: b\rC: d\r\n"]);
    refused(ChunkError::LineEnd, &["0\r\n\rx", "1 \n"]);
    refused(ChunkError::Extension, &["1 \r\n", "1 x\r\n", "1;\0\r\n", "1;a\x7f\r\n", "1\t\t\r\n"]);
    refused(ChunkError::ChunkEnd, &["1\r\nab", "1\r\na\n", "1\r\na\rx", "2\r\na\r\n0\r\n\r\n"]);
    refused(
        ChunkError::Trailer,
        &["0\r\nnocolon\r\n", "0\r\n: x\r\n", "0\r\nA : b\r\n", "0\r\n folded: x\r\n", "0\r\nA: \0\r\n", "0\r\n\n"],
    );
}

#[test]
fn after_an_error_nothing_is_taken_for_a_body() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(b"x"), Err(ChunkError::Size));
    assert_eq!(decoder.step(b"1\r\na\r\n0\r\n\r\n"), Err(ChunkError::Size));
    assert_eq!(decoder.decode(b"", &mut [0; 9]), Err(ChunkError::Size));
    assert!(!decoder.is_done());
}

#[test]
fn the_largest_size_does_not_overflow() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.step(b"ffffffffffffffff\r\n"), Ok((18, Event::Chunk(u64::MAX))));
    assert_eq!(decoder.left_in_chunk(), u64::MAX);
    assert_eq!(decoder.step(b"abc"), Ok((3, Event::Data(b"abc"))));
    assert_eq!(decoder.left_in_chunk(), u64::MAX - 3);
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    // Each chunk takes 99 bytes of them: the semicolon, 97 letters, the carriage return.
    let chunk = format!("1;{}\r\na\r\n", "e".repeat(97));
    let most = MAX_EXTENSIONS as usize / 99;
    assert!(whole(&chunk.repeat(most)).is_ok());
    assert_eq!(whole(&chunk.repeat(most + 1)), Err(ChunkError::Extensions));
}

#[test]
fn trailers_are_bounded() {
    // A line counts without its line feed.
    let line = format!("{}:\r\n", "t".repeat(62));
    let most = MAX_TRAILERS as usize / 64;
    assert!(whole(&format!("0\r\n{}\r\n", line.repeat(most))).is_ok_and(|(_, done, _)| done));
    assert_eq!(whole(&format!("0\r\n{}\r\n", line.repeat(most + 1))), Err(ChunkError::Trailers));
}

#[test]
fn events_tell_where_chunks_start() {
    let mut decoder = Decoder::new();
    let input = b"3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(decoder.step(input), Ok((3, Event::Chunk(3))));
    assert_eq!(decoder.step(&input[3..5]), Ok((2, Event::Data(b"ab"))));
    assert_eq!((decoder.left_in_chunk(), decoder.is_done()), (1, false));
    assert_eq!(decoder.step(b""), Ok((0, Event::More)));
    assert_eq!(decoder.step(&input[5..]), Ok((1, Event::Data(b"c"))));
    assert_eq!(decoder.step(&input[6..]), Ok((input.len() - 6, Event::End)));
}

#[test]
fn without_room_for_data_the_framing_still_goes_on() {
    let mut decoder = Decoder::new();
    let progress = decoder.decode(b"1\r\na\r\n0\r\n\r\n", &mut [0; 1]).expect("sound");
    assert_eq!((progress.consumed, progress.produced, decoder.is_done()), (11, 1, true));
    let mut decoder = Decoder::new();
    let progress = decoder.decode(b"1\r\na\r\n", &mut []).expect("sound");
    assert_eq!((progress.consumed, progress.produced), (3, 0));
}

fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
    use imperator_protocol::response::{CHUNK_END, ChunkStart, LAST_CHUNK};
    let mut out = Vec::new();
    for chunk in chunks {
        let Some(length) = std::num::NonZeroUsize::new(chunk.len()) else { continue };
        out.extend_from_slice(ChunkStart::new(length).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(CHUNK_END);
    }
    out.extend_from_slice(LAST_CHUNK);
    out
}

proptest! {
    #[test]
    fn what_we_encode_we_decode(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
        room in 1usize..500,
    ) {
        let input = encode(&chunks);
        prop_assert_eq!(decode(&input, &cuts, room), Ok((chunks.concat(), true, input.len())));
    }

    /// Pieces of chunked bodies in any order: sound or not, how they are cut makes no difference.
    #[test]
    fn it_does_not_matter_how_the_input_is_cut(
        parts in proptest::collection::vec(proptest::sample::select(vec!["0", "3", "a", "\r\n", "\r", "\n", ";x=y", " ", "abc", "A: b", ":", "0\r\n\r\n", "1\r\nz\r\n"]), 0..14),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
        room in 1usize..9,
    ) {
        let input = parts.concat().into_bytes();
        prop_assert_eq!(decode(&input, &cuts, room), decode(&input, &[], 4096));
    }
}
