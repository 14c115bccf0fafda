use std::fmt::Write as _;
use std::str::FromStr as _;

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A content digest, `sha256:…` (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>).
pub use oci_spec::image::Digest;

/// A digest that cannot be checked, so nothing with it is ever served or stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sha256, sha384 or sha512 digest in lower-case hexadecimal")]
pub struct UnsupportedDigest(String);

/// The bytes are not the ones that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {actual}")]
pub struct DigestMismatch {
    /// What was asked for.
    pub expected: String,
    /// What the bytes have.
    pub actual: String,
}

/// Reads a digest of an algorithm that [`Hasher`] can check.
pub fn parse_digest(text: &str) -> Result<Digest, UnsupportedDigest> {
    let unsupported = || UnsupportedDigest(text.chars().take(160).collect());
    let (algorithm, hex) = text.split_once(':').ok_or_else(unsupported)?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(unsupported()),
    };
    if hex.len() != length || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(unsupported());
    }
    Digest::from_str(text).map_err(|_| unsupported())
}

/// Computes a digest while the bytes pass by.
#[derive(Debug, Clone)]
pub struct Hasher {
    expected: Digest,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher for bytes that shall have the digest `expected`.
    pub fn expecting(expected: &Digest) -> Result<Self, UnsupportedDigest> {
        let state = match expected.algorithm().as_ref() {
            "sha256" => State::Sha256(Sha256::new()),
            "sha384" => State::Sha384(Sha384::new()),
            "sha512" => State::Sha512(Sha512::new()),
            _ => return Err(UnsupportedDigest(expected.to_string())),
        };
        Ok(Self { expected: expected.clone(), state })
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha384(hash) => hash.update(bytes),
            State::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Says whether the bytes were the ones that the digest names.
    pub fn finish(self) -> Result<(), DigestMismatch> {
        let (algorithm, hash) = match self.state {
            State::Sha256(hash) => ("sha256", hash.finalize().to_vec()),
            State::Sha384(hash) => ("sha384", hash.finalize().to_vec()),
            State::Sha512(hash) => ("sha512", hash.finalize().to_vec()),
        };
        let actual = format!("{algorithm}:{}", hexadecimal(&hash));
        let expected = self.expected.to_string();
        if actual == expected { Ok(()) } else { Err(DigestMismatch { expected, actual }) }
    }

    /// Checks bytes that are all at hand.
    pub fn check(expected: &Digest, bytes: &[u8]) -> Result<(), DigestMismatch> {
        let mut hasher = Self::expecting(expected)
            .map_err(|error| DigestMismatch { expected: expected.to_string(), actual: error.to_string() })?;
        hasher.update(bytes);
        hasher.finish()
    }

    /// The sha256 digest of bytes, for what comes without one (a manifest asked for by its tag).
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::from_str(&format!("sha256:{}", hexadecimal(&Sha256::digest(bytes))))
            .unwrap_or_else(|error| unreachable!("a sha256 is a digest: {error}"))
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn bytes_in_pieces_have_the_digest_of_the_whole() {
        let digest = Hasher::sha256(b"hello world");
        assert_eq!(digest.to_string(), "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
        let mut hasher = Hasher::expecting(&digest).unwrap();
        hasher.update(b"hello ");
        hasher.update(b"world");
        assert_eq!(hasher.finish(), Ok(()));
    }

    #[test]
    fn a_mismatch_names_both() {
        let empty = parse_digest(EMPTY).unwrap();
        let error = Hasher::check(&empty, b"x").unwrap_err();
        assert_eq!(error.expected, EMPTY);
        assert!(error.actual.starts_with("sha256:2d711642"), "{error}");
    }

    #[rstest]
    #[case("sha256:abc")]
    #[case("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709")]
    #[case("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    #[case("sha256:../../../../../../../../../../../../../../../../../../../../etc/pass")]
    #[case(&EMPTY.to_uppercase())]
    fn a_digest_that_cannot_be_checked_is_refused(#[case] text: &str) {
        assert!(parse_digest(text).is_err());
    }

    #[rstest]
    #[case("sha384:38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b")]
    #[case(
        "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
    )]
    #[case(EMPTY)]
    fn every_registered_algorithm_is_checked(#[case] empty: &str) {
        let digest = parse_digest(empty).unwrap();
        assert_eq!(Hasher::check(&digest, b""), Ok(()));
        assert!(Hasher::check(&digest, b"x").is_err());
    }
}
