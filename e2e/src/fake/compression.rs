//! Transport compression, without compressing anything: both formats have blocks of plain bytes,
//! which every decompressor reads.

use serde::Deserialize;

/// The size of a block that both formats allow.
const MAX_BLOCK_BYTES: usize = 65_535;

/// A format, by its name in the query of the gateway's URL.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum Format {
    #[serde(rename = "zlib-stream")]
    Zlib,
    #[serde(rename = "zstd-stream")]
    Zstd,
}

/// The stream of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    format: Format,
    has_header: bool,
}

impl Stream {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            has_header: false,
        }
    }

    /// Returns the part of the stream that contains `message`.
    pub(super) fn message(&mut self, message: &str) -> Vec<u8> {
        let mut part = Vec::new();
        if !std::mem::replace(&mut self.has_header, true) {
            part.extend(self.format.header());
        }
        for block in message.as_bytes().chunks(MAX_BLOCK_BYTES) {
            self.format.add_block(&mut part, block);
        }
        if self.format == Format::Zlib {
            // An empty block, by which a bot recognizes the end of a message.
            self.format.add_block(&mut part, &[]);
        }
        part
    }
}

impl Format {
    fn header(self) -> &'static [u8] {
        match self {
            // RFC 1950: deflate, and a checksum of these two bytes.
            Self::Zlib => &[0x78, 0x01],
            // RFC 8878: the magic number, no options, and a window of 128 KiB.
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38],
        }
    }

    /// Adds a block that is not the last one of the stream.
    fn add_block(self, part: &mut Vec<u8>, block: &[u8]) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        match self {
            // RFC 1951: the type, the length and its complement.
            Self::Zlib => {
                part.push(0);
                part.extend(length.to_le_bytes());
                part.extend((!length).to_le_bytes());
            }
            // RFC 8878: the length and the type in three bytes.
            Self::Zstd => part.extend(&(u32::from(length) << 3).to_le_bytes()[..3]),
        }
        part.extend(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zlib_stream_has_one_header_and_each_message_ends_with_an_empty_block() {
        let mut stream = Stream::new(Format::Zlib);
        let first = stream.message("{}");
        assert_eq!(first[..7], [0x78, 0x01, 0, 2, 0, 0xfd, 0xff]);
        assert_eq!(&first[7..9], b"{}");
        assert_eq!(first[9..], [0, 0, 0, 0xff, 0xff]);
        assert_eq!(stream.message("{}"), first[2..]);
    }

    #[test]
    fn a_long_message_has_several_blocks() {
        let mut stream = Stream::new(Format::Zstd);
        let part = stream.message(&"x".repeat(MAX_BLOCK_BYTES + 1));
        assert_eq!(part.len(), 6 + 3 + MAX_BLOCK_BYTES + 3 + 1);
        assert_eq!(part[6..9], [0xf8, 0xff, 0x07]);
        assert_eq!(part[part.len() - 4..], [0x08, 0, 0, b'x']);
    }
}
