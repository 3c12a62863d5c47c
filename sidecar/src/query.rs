//! What a client asks for: the query of its request.

/// A request's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The shard that wants to identify.
    pub shard: u32,
    /// False when no shard could be read: it is 0 then, as in the original.
    pub readable: bool,
}

/// Reads `shard=N`. The first one counts; an absent or unreadable one is 0.
pub fn parse(query: Option<&str>) -> Ask {
    let shard = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("shard="))
        .and_then(digits);
    Ask {
        shard: shard.unwrap_or(0),
        readable: shard.is_some(),
    }
}

/// A decimal number, digits only: `parse` alone would take a plus sign. Each
/// digit may be percent-encoded, as some clients do to everything.
fn digits(text: &str) -> Option<u32> {
    let plain = (0..10).fold(text.to_owned(), |text, digit| {
        text.replace(&format!("%3{digit}"), &digit.to_string())
    });
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(query: &str) -> Option<u32> {
        let ask = parse(Some(query));
        ask.readable.then_some(ask.shard)
    }

    #[test]
    fn a_shard_is_read_wherever_it_stands() {
        assert_eq!(shard("shard=0"), Some(0));
        assert_eq!(shard("a=b&shard=42&wait=3"), Some(42));
        assert_eq!(shard("shard=4294967295"), Some(u32::MAX));
        assert_eq!(shard("shard=%34%32"), Some(42));
        assert_eq!(shard("shard=1&shard=2"), Some(1));
    }

    #[test]
    fn what_cannot_be_read_is_shard_0_and_says_so() {
        for query in [
            "shard=abc",
            "shard=-1",
            "shard=+1",
            "shard=",
            "shard",
            "shard=4294967296",
            "shard=18446744073709551616",
            "shard=1.0",
            "shard= 1",
            "SHARD=1",
            "&&==",
        ] {
            assert_eq!(shard(query), None, "{query}");
            assert_eq!(parse(Some(query)).shard, 0);
        }
        assert!(!parse(None).readable);
    }
}
