use crate::digest::Digest;

/// What cosign puts behind the tag of what is about a manifest: signatures, attestations, SBOMs
/// (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#storage>).
const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];

/// The longest tag that there is.
const LONGEST: usize = 128;

/// How much of a digest's hexadecimal stands in a tag.
const HEXADECIMAL: usize = 64;

/// The tag under which a registry without a referrers API has the list of what is about a manifest
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>).
pub fn referrers_tag(subject: &Digest) -> String {
    let hexadecimal: String = subject.digest().chars().take(HEXADECIMAL).collect();
    format!("{}-{hexadecimal}", subject.algorithm())
}

/// The tags under which cosign has what is about a manifest.
pub fn cosign_tags(subject: &Digest) -> impl Iterator<Item = String> + use<> {
    let stem = format!("{}-{}", subject.algorithm(), subject.digest());
    COSIGN.into_iter().map(move |suffix| format!("{stem}{suffix}")).filter(|tag| tag.len() <= LONGEST)
}

/// True for a tag of either form: nothing that a pod runs.
pub fn is_referrers_tag(tag: &str) -> bool {
    let (stem, suffix) = tag.split_once('.').map_or((tag, ""), |(stem, _)| (stem, &tag[stem.len()..]));
    let Some((algorithm, hexadecimal)) = stem.split_once('-') else { return false };
    matches!(algorithm, "sha256" | "sha384" | "sha512")
        && hexadecimal.len() >= HEXADECIMAL
        && hexadecimal.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (suffix.is_empty() || COSIGN.contains(&suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::parse_digest;
    use rstest::rstest;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_digest_has_its_tags() {
        let digest = parse_digest(&format!("sha256:{HEX}")).unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha256-{HEX}"));
        let tags: Vec<_> = cosign_tags(&digest).collect();
        assert_eq!(tags, [".sig", ".att", ".sbom"].map(|suffix| format!("sha256-{HEX}{suffix}")));
        assert!(tags.iter().chain([&referrers_tag(&digest)]).all(|tag| is_referrers_tag(tag)));
    }

    #[test]
    fn of_a_long_digest_the_beginning_is_the_tag_and_cosign_has_none() {
        let digest = parse_digest(&format!("sha512:{HEX}{HEX}")).unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha512-{HEX}"));
        assert_eq!(cosign_tags(&digest).count(), 0);
    }

    #[rstest]
    #[case("1.27")]
    #[case("sha256-abc")]
    #[case(&format!("digest.sha256-{HEX}"))]
    #[case(&format!("sha256-{HEX}.1"))]
    #[case(&format!("md5-{HEX}"))]
    fn a_tag_of_an_image_is_none_of_them(#[case] tag: &str) {
        assert!(!is_referrers_tag(tag));
    }
}
