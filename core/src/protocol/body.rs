//! The body of a request, which is read only to find its end. As strict as hyper.

use crate::protocol::InvalidRequest;

/// The maximum size of a body; a longer one is invalid.
pub const MAX_BODY_BYTES: u32 = 64 * 1024;

/// The maximum size of what a chunked body consists of besides its data: the sizes of the chunks,
/// extensions and trailers. hyper limits the latter two to this size each.
const MAX_CHUNKING_BYTES: u32 = 16 * 1024;

/// The maximum number of trailers, which is that of hyper.
const MAX_TRAILERS: u8 = 100;

/// A body that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    state: State,
    /// The bytes that are missing from this chunk, or from a body that is not chunked.
    left: u32,
    /// How much data may follow this chunk.
    data_left: u32,
    /// How much may follow that is not data.
    chunking_left: u32,
    trailers: u8,
}

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The data of a body that is not chunked.
    Sized,
    FirstDigit,
    Digit,
    /// White space after the size, or what ends it.
    SizeEnd,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer, or the empty line after the last one.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Complete,
}

impl Body {
    /// Returns a body with this Content-Length.
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub fn sized(length: u64) -> Result<Self, InvalidRequest> {
        let left = u32::try_from(length).ok();
        let left = left.filter(|left| *left <= MAX_BODY_BYTES);
        let left = left.ok_or(InvalidRequest)?;
        let state = if left == 0 {
            State::Complete
        } else {
            State::Sized
        };
        Ok(Self::new(state, left))
    }

    /// Returns a chunked body.
    pub fn chunked() -> Self {
        Self::new(State::FirstDigit, 0)
    }

    fn new(state: State, left: u32) -> Self {
        Self {
            state,
            left,
            data_left: MAX_BODY_BYTES,
            chunking_left: MAX_CHUNKING_BYTES,
            trailers: 0,
        }
    }

    /// Returns whether the end of the body was read.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Reads the next bytes of the connection. Returns how many of them belong to the body: if it is
    /// complete, others may follow.
    ///
    /// # Errors
    ///
    /// If they are invalid, or if the body is too long.
    pub fn read(&mut self, bytes: &[u8]) -> Result<usize, InvalidRequest> {
        let mut rest = bytes;
        while !self.is_complete()
            && let Some((&byte, after)) = rest.split_first()
        {
            if matches!(self.state, State::Data | State::Sized) {
                rest = self.read_data(rest);
            } else {
                let chunking_left = self.chunking_left.checked_sub(1);
                self.chunking_left = chunking_left.ok_or(InvalidRequest)?;
                self.state = self.step(byte)?;
                rest = after;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Returns what follows the data.
    fn read_data<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let read = bytes.len().min(self.left as usize);
        self.left -= read as u32;
        if self.left == 0 {
            self.state = match self.state {
                State::Sized => State::Complete,
                _ => State::DataCr,
            };
        }
        &bytes[read..]
    }

    fn step(&mut self, byte: u8) -> Result<State, InvalidRequest> {
        use State::*;
        Ok(match (self.state, byte) {
            (FirstDigit | Digit, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // Never above 16 times the limit.
                self.left = self.left * 16 + digit;
                if self.left > self.data_left {
                    return Err(InvalidRequest);
                }
                Digit
            }
            (Digit | SizeEnd, b' ' | b'\t') => SizeEnd,
            (Digit | SizeEnd, b';') => Extension,
            (Digit | SizeEnd | Extension, b'\r') => SizeLf,
            (Extension, byte) if byte != b'\n' => Extension,
            (SizeLf, b'\n') if self.left == 0 => Trailer,
            (SizeLf, b'\n') => {
                self.data_left -= self.left;
                Data
            }
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => FirstDigit,
            (Trailer, b'\r') => LastLf,
            (Trailer, byte) if is_token(byte) && self.trailers < MAX_TRAILERS => {
                self.trailers += 1;
                TrailerName
            }
            (TrailerName, b':') => TrailerValue,
            (TrailerName, byte) if is_token(byte) => TrailerName,
            (TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => TrailerValue,
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerLf, b'\n') => Trailer,
            (LastLf, b'\n') => Complete,
            _ => return Err(InvalidRequest),
        })
    }
}

/// Whether a name may contain this byte.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns how many bytes belong to a chunked body; none if its end is missing.
    fn chunked(bytes: &[u8]) -> Result<Option<usize>, InvalidRequest> {
        let mut body = Body::chunked();
        let read = body.read(bytes)?;
        Ok(body.is_complete().then_some(read))
    }

    const VALID: [&str; 7] = [
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "A;x=\"y;\"\r\n0123456789\r\n1 \t;\r\n\r\r\n000 \r\n\r\n",
        "3\r\n\r\n0\r\n0\r\nx: y\r\n\r\n",
        "0\r\na:\r\nb: \u{fc}\t \r\n\r\n",
        "00000000000000000001\r\nx\r\n0\r\n\r\n",
        "0;\u{1}\0\r\n\r\n",
    ];

    #[test]
    fn a_chunked_body_ends_after_its_last_chunk_and_its_trailers() {
        for text in VALID {
            let bytes = [text, "GET /"].concat();
            for end in 0..text.len() {
                assert_eq!(chunked(&bytes.as_bytes()[..end]), Ok(None), "{text}");
            }
            assert_eq!(chunked(bytes.as_bytes()), Ok(Some(text.len())), "{text}");
        }
    }

    #[test]
    fn an_invalid_chunk_is_refused() {
        for text in [
            "\r\n",
            "x",
            " 1",
            "-1",
            "+1",
            "1x",
            "1 1",
            "1\n",
            "1\rx",
            "1;\n",
            "1\r\nxy",
            "1\r\nx\ny",
            "0\r\n\n",
            "0\r\n:",
            "0\r\na b",
            "0\r\na:\n",
            "0\r\na:\0",
            "0\r\n\rx",
            "0\r\na\r",
            "0\r\n x: y",
        ] {
            assert_eq!(chunked(text.as_bytes()), Err(InvalidRequest), "{text}");
        }
    }

    #[test]
    fn a_body_has_at_most_64_kib() {
        let limit = u64::from(MAX_BODY_BYTES);
        assert!(Body::sized(limit).is_ok());
        assert_eq!(Body::sized(limit + 1), Err(InvalidRequest));
        assert_eq!(Body::sized(u64::MAX), Err(InvalidRequest));
        let half = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
        let whole = half.repeat(2);
        let ends = |end: &str| chunked([&whole, end].concat().as_bytes());
        assert!(matches!(ends("0\r\n\r\n"), Ok(Some(_))));
        assert_eq!(ends("1"), Err(InvalidRequest));
        assert_eq!(chunked(b"10001"), Err(InvalidRequest));
        assert_eq!(chunked(&[b'f'; 100]), Err(InvalidRequest));
    }

    #[test]
    fn what_a_body_has_besides_its_data_is_limited() {
        let limit = MAX_CHUNKING_BYTES as usize;
        for (start, more) in [
            ("", "0"),
            ("1;", "x"),
            ("1 ", " "),
            ("", "1\r\nx\r\n"),
            ("0\r\na:", "x"),
        ] {
            let bytes = [start, &more.repeat(limit + 1)].concat();
            assert_eq!(
                chunked(bytes.as_bytes()),
                Err(InvalidRequest),
                "{start}{more}"
            );
            assert_eq!(
                chunked(&bytes.as_bytes()[..limit]),
                Ok(None),
                "{start}{more}"
            );
        }
        let trailers = |count: usize| format!("0\r\n{}\r\n", "x: y\r\n".repeat(count));
        let most = usize::from(MAX_TRAILERS);
        assert!(matches!(chunked(trailers(most).as_bytes()), Ok(Some(_))));
        assert_eq!(chunked(trailers(most + 1).as_bytes()), Err(InvalidRequest));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_body_is_split(
            parts in prop::collection::vec("[0-3]|;|\r\n|\r|\n|abc|x: y|0\r\n|3\r\nabc\r\n", 0..12),
            length in prop::option::of(0..20_u64),
            splits in prop::collection::vec(0..30_usize, 0..4),
        ) {
            let bytes = parts.concat().into_bytes();
            let new = || length.map_or_else(Body::chunked, |length| Body::sized(length).unwrap());
            let mut whole = new();
            let read = whole.read(&bytes);
            let mut body = new();
            let (mut split, mut rest) = (Ok(0), &bytes[..]);
            for end in splits.into_iter().chain([rest.len()]) {
                let (part, after) = rest.split_at(end.min(rest.len()));
                split = split.and_then(|before| Ok(before + body.read(part)?));
                rest = after;
            }
            prop_assert_eq!(split, read);
            if read.is_ok() {
                prop_assert_eq!(body, whole);
            }
        }
    }
}
