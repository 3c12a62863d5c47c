//! Splits the output of hyper into HTTP messages. Pure.
//!
//! One write may contain a part of a message or several messages: hyper puts its
//! `100 Continue` into the same buffer as a response that is available immediately.

use std::io;

/// No response of this server or of hyper is longer.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The three digits of the status.
    pub(crate) status: [u8; 3],
    /// The length, including the empty line at the end.
    pub(crate) bytes: usize,
}

impl Head {
    /// Returns whether another message for the same request follows. `101` is final: HTTP
    /// ends there.
    pub(crate) fn is_interim(&self) -> bool {
        self.status[0] == b'1' && &self.status != b"101"
    }
}

/// Returns the head of the first message, or none while its end is missing.
///
/// # Errors
///
/// If the bytes are not the beginning of an HTTP/1 response.
pub(crate) fn head(bytes: &[u8]) -> io::Result<Option<Head>> {
    const VERSION: &[u8] = b"HTTP/1.";
    let start = &bytes[..bytes.len().min(VERSION.len())];
    if !VERSION.starts_with(start) {
        return Err(io::Error::other("not an HTTP response"));
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    // "HTTP/1.1 200 OK"
    let status = bytes[..end].get(9..12).and_then(|s| s.try_into().ok());
    let status = status.ok_or_else(|| io::Error::other("an HTTP response without a status"))?;
    Ok(Some(Head {
        status,
        bytes: end + 4,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_ends_with_its_empty_line() {
        let bytes = b"HTTP/1.0 429 Too Many Requests\r\na: b\r\n\r\nbody\r\n\r\n";
        for end in 0..40 {
            assert_eq!(head(&bytes[..end]).unwrap(), None, "{end}");
        }
        let whole = Head {
            status: *b"429",
            bytes: 40,
        };
        assert_eq!(head(bytes).unwrap(), Some(whole));
    }

    #[test]
    fn only_informational_responses_are_interim() {
        let interim = |status| Head { status, bytes: 0 }.is_interim();
        assert!(interim(*b"100") && interim(*b"103"));
        assert!(!interim(*b"101") && !interim(*b"200") && !interim(*b"400"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_a_part_of_one_or_an_error(
            mut bytes in prop::collection::vec(any::<u8>(), 0..60),
            begins in any::<bool>(),
        ) {
            if begins {
                bytes.splice(0..0, *b"HTTP/1.1 ");
                bytes.extend_from_slice(b"\r\n\r\n");
            }
            if let Ok(Some(head)) = head(&bytes) {
                prop_assert!(head.bytes <= bytes.len());
            }
        }
    }
}
