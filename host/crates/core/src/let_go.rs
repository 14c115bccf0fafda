use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// A tag that keeps a manifest in the cache for a while after its own tag has let it go: so the registry itself remembers
/// what is to be removed, and since when.
///
/// It is `untagged.<seconds since 1970>.<the first digits of its digest>`, and names that manifest. An upstream's tag of
/// this very form would be taken for one of ours, and its image would leave the cache early.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetGo {
    since: u64,
    /// Keeps those apart that were let go at the same second.
    digits: String,
}

const PREFIX: &str = "untagged.";
const DIGITS: usize = 16;

impl LetGo {
    /// For a manifest that is let go at this time, in seconds since 1970.
    pub fn new(digest: &Digest, since: u64) -> Self {
        Self { since, digits: digest.digest().chars().take(DIGITS).collect() }
    }

    /// When its manifest was let go, in seconds since 1970.
    pub fn since(&self) -> u64 {
        self.since
    }
}

impl fmt::Display for LetGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}", self.since, self.digits)
    }
}

/// It is another tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the tag of a manifest that was let go")]
pub struct AnotherTag;

impl FromStr for LetGo {
    type Err = AnotherTag;

    fn from_str(tag: &str) -> Result<Self, AnotherTag> {
        let (since, digits) = tag.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or(AnotherTag)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let let_go = Self { since: since.parse().map_err(|_| AnotherTag)?, digits: digits.to_owned() };
        let is_ours = digits.len() == DIGITS && digits.bytes().all(is_hex) && let_go.to_string() == tag;
        if is_ours { Ok(let_go) } else { Err(AnotherTag) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Hasher;
    use rstest::rstest;

    #[test]
    fn is_read_as_it_was_written() {
        let let_go = LetGo::new(&Hasher::sha256(b""), 1_795_830_000);
        assert_eq!(let_go.to_string(), "untagged.1795830000.e3b0c44298fc1c14");
        assert_eq!(let_go.to_string().parse(), Ok(let_go.clone()));
        assert_eq!(let_go.since(), 1_795_830_000);
    }

    #[rstest]
    #[case("untagged")]
    #[case("untagged.1")]
    #[case("untagged.1.e3b0c44298fc1c1")]
    #[case("untagged.1.e3b0c44298fc1c149")]
    #[case("untagged.1.E3B0C44298FC1C14")]
    #[case("untagged.01.e3b0c44298fc1c14")]
    #[case("untagged.+1.e3b0c44298fc1c14")]
    #[case("untagged.99999999999999999999.e3b0c44298fc1c14")]
    #[case("1.27")]
    fn what_somebody_else_has_called_so_is_not_ours(#[case] tag: &str) {
        assert_eq!(tag.parse::<LetGo>(), Err(AnotherTag));
    }
}
