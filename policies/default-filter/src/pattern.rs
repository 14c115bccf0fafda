//! Which images a pattern means: the form of `matchImages` in a kubelet's `CredentialProviderConfig`, and its meaning
//! (`URLsMatch` in <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/keyring.go>), so that
//! what stands there can be put into the settings as it is.
//!
//! A host, with `*` for any part of a label, and after it, where they matter, a port and the beginning of a path:
//! `*.dkr.ecr.*.amazonaws.com`, `registry.example:5000/team`. A `*` never reaches over a dot.

use cache_registry_policy_sdk::Image;

/// No image has a longer name.
const LONGEST: usize = 255;

/// Whether it is a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    let (host, port, path) = parts(text);
    let is_of_a_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*');
    let is_of_a_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
    let is_a_port = |number: &str| (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= LONGEST
        && host.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_a_label))
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_a_port))
        && path.bytes().all(is_of_a_path)
}

/// True where the pattern means the image. The case of its letters does not matter.
///
/// In one pass, and without taking it apart before: a guest has all of its patterns for one request, and most are told by
/// a byte or two. A star takes as little as it can, and where the rest does not fit then, a byte more of its label.
pub(crate) fn means(pattern: &str, image: &Image) -> bool {
    let (mut pattern, mut registry) = (pattern.as_bytes(), image.registry.as_bytes());
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, registry, last_star) {
            ([b'*', behind @ ..], _, _) => {
                pattern = behind;
                last_star = Some((behind, registry));
            }
            ([expected, behind @ ..], [byte, rest @ ..], _) if expected.eq_ignore_ascii_case(byte) => {
                (pattern, registry) = (behind, rest);
                if *byte == b'.' {
                    last_star = None;
                }
            }
            ([b'/', path @ ..], [], _) => return begins_with(&image.repository, path),
            ([], [], _) => return true,
            (_, _, Some((behind, [byte, rest @ ..]))) if !matches!(byte, b'.' | b':') => {
                (pattern, registry) = (behind, rest);
                last_star = Some((behind, rest));
            }
            _ => return false,
        }
    }
}

fn begins_with(repository: &str, path: &[u8]) -> bool {
    repository.as_bytes().get(..path.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(path))
}

/// The host, the port with its colon, and the beginning of a path, where there are any.
fn parts(pattern: &str) -> (&str, &str, &str) {
    let (host_and_port, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (host, port) = host_and_port.split_at(host_and_port.find(':').unwrap_or(host_and_port.len()));
    (host, port, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::testing;
    use proptest::prelude::*;
    use rstest::rstest;

    fn means(pattern: &str, image: &str) -> bool {
        assert!(is_pattern(pattern), "{pattern}");
        super::means(pattern, &testing::image(&format!("{image}:1")))
    }

    fn means_host(pattern: &str, host: &str) -> bool {
        let repository = "app".to_owned();
        super::means(pattern, &Image { registry: host.to_owned(), repository, tag: None, digest: None })
    }

    #[rstest]
    #[case("gcr.io", "gcr.io/app", true)]
    #[case("gcr.io", "eu.gcr.io/app", false)]
    #[case("gcr.io", "gcr.io.example/app", false)]
    #[case("gcr.io", "gcr.io:443/app", false)]
    #[case("GCR.io", "gcr.io/app", true)]
    #[case("*.gcr.io", "eu.gcr.io/app", true)]
    #[case("*.gcr.io", "gcr.io/app", false)]
    #[case("*.gcr.io", "a.eu.gcr.io/app", false)]
    #[case("*.*.gcr.io", "a.eu.gcr.io/app", true)]
    #[case("*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app", true)]
    #[case("*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/app", false)]
    #[case("*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app", false)]
    #[case("*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example/app", false)]
    #[case("*-docker.pkg.dev", "europe-docker.pkg.dev/project/app", true)]
    #[case("*-docker.pkg.dev", "docker.pkg.dev/project/app", false)]
    #[case("a*b*c.example", "axxbyyc.example/app", true)]
    #[case("a*b*c.example", "abc.example/app", true)]
    #[case("a*b*c.example", "axxcyyb.example/app", false)]
    #[case("a*a.example", "a.example/app", false)]
    #[case("a**.example", "a.example/app", true)]
    #[case("reg.example:5000", "reg.example:5000/app", true)]
    #[case("reg.example:5000", "reg.example:5001/app", false)]
    #[case("reg.example:5000", "reg.example/app", false)]
    #[case("*.example:5000", "reg.example:5000/app", true)]
    #[case("gcr.io/mine", "gcr.io/mine/app", true)]
    #[case("gcr.io/mine", "gcr.io/mine-too/app", true)]
    #[case("gcr.io/mine/", "gcr.io/mine-too/app", false)]
    #[case("gcr.io/Mine/", "gcr.io/mine/app", true)]
    #[case("gcr.io/", "gcr.io/app", true)]
    #[case("gcr.io/mine", "gcr.io/other/mine", false)]
    #[case("docker.io/team", "docker.io/team/app", true)]
    #[case("*", "localhost:5000/app", false)]
    #[case("*:5000", "localhost:5000/app", true)]
    #[case("*:5000", "localhost:5001/app", false)]
    #[case("*:5000", "localhost:55000/app", false)]
    #[case("*a.b", "aa.b/app", true)]
    #[case("*/mine", "localhost/mine/app", true)]
    #[case("*/mine", "localhost/other/mine", false)]
    #[case("*.*", "docker.io/library/nginx", true)]
    fn a_pattern_means_what_it_means_to_a_kubelet(#[case] pattern: &str, #[case] image: &str, #[case] meant: bool) {
        assert_eq!(means(pattern, image), meant, "{pattern} {image}");
    }

    /// Hosts that are no names are never meant by accident.
    #[rstest]
    #[case("[::1]:5000")]
    #[case("[fd00::10]")]
    fn an_address_in_brackets_has_no_pattern(#[case] registry: &str) {
        let image = Image { registry: registry.to_owned(), ..testing::image("reg.example/app:1") };
        for pattern in ["gcr.io", "*.*", "reg.example:5000", "*.example"] {
            assert!(!super::means(pattern, &image), "{pattern}");
        }
    }

    #[rstest]
    #[case("")]
    #[case(".")]
    #[case("gcr.io.")]
    #[case("a..b")]
    #[case("https://gcr.io")]
    #[case("gcr.io:")]
    #[case("gcr.io:*")]
    #[case("gcr.io:123456")]
    #[case("gcr.io/*")]
    #[case("gcr.io/app:1")]
    #[case("gcr.io /app")]
    #[case("gcr?.io")]
    #[case("[ab].io")]
    #[case("[::1]:5000")]
    #[case("gçr.io")]
    #[case("\\u0061.example")]
    #[case("/mine")]
    #[case("a:1:2")]
    #[case("a:1.b")]
    #[case(&"a".repeat(256))]
    fn what_is_no_pattern_is_told(#[case] text: &str) {
        assert!(!is_pattern(text));
    }

    /// Each takes its length times the label's at most, however many stars there are.
    #[test]
    fn many_stars_take_no_time() {
        let (stars, label) = ("*a".repeat(125), "a".repeat(2_000));
        assert!(means_host(&stars, &label));
        assert!(!means_host(&format!("{stars}b"), &label));
        assert!(!means_host(&"a*".repeat(125), &"a".repeat(124)));
    }

    /// The same by trying every place, as one would define it.
    fn matches_by_definition(pattern: &[u8], label: &[u8]) -> bool {
        match (pattern, label) {
            ([], _) => label.is_empty(),
            ([b'*', rest @ ..], _) => (0..=label.len()).any(|skipped| matches_by_definition(rest, &label[skipped..])),
            ([one, rest @ ..], [first, label @ ..]) => one == first && matches_by_definition(rest, label),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_star_is_any_part_of_a_label(pattern in "[ab*]{0,8}", label in "[ab]{0,10}") {
            prop_assert_eq!(
                means_host(&pattern, &label),
                matches_by_definition(pattern.as_bytes(), label.as_bytes())
            );
        }

        /// Label for label, as a kubelet does it: as many, and each fits.
        #[test]
        fn a_star_is_within_its_label(
            pattern in "[ab*]{1,3}(\\.[ab*]{1,3}){0,2}(:[12]{1,2})?(/[ab]{0,2})?",
            registry in "[ab]{1,3}(\\.[ab]{1,3}){0,2}(:[12]{1,2})?",
            repository in "[ab]{1,3}",
        ) {
            let (host, port, path) = parts(&pattern);
            let (asked_host, asked_port) = registry.split_at(registry.find(':').unwrap_or(registry.len()));
            let (patterns, labels) = (host.split('.'), asked_host.split('.'));
            let fits = patterns.clone().count() == labels.clone().count()
                && patterns.zip(labels).all(|(one, label)| matches_by_definition(one.as_bytes(), label.as_bytes()));
            let meant = fits && port == asked_port && repository.starts_with(path);
            let image = Image { registry, repository, tag: None, digest: None };
            prop_assert_eq!(super::means(&pattern, &image), meant);
        }

        #[test]
        fn no_text_panics(pattern in ".{0,40}", registry in ".{0,40}", repository in ".{0,20}") {
            is_pattern(&pattern);
            super::means(&pattern, &Image { registry, repository, tag: None, digest: None });
        }

        #[test]
        fn a_host_means_itself_and_no_other(host in "[a-z0-9-]{1,8}(\\.[a-z0-9-]{1,8}){0,3}(:[0-9]{1,5})?", other in "[a-z0-9.:*-]{1,20}") {
            let image = |registry: &str| Image { registry: registry.to_owned(), ..testing::image("a.b/app:1") };
            prop_assert!(is_pattern(&host));
            prop_assert!(super::means(&host, &image(&host)));
            prop_assert_eq!(super::means(&host, &image(&other)), host == other);
        }
    }
}
