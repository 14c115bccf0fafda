//! Which images a pattern means: the form of `matchImages` in a kubelet's `CredentialProviderConfig`, and its meaning
//! (`URLsMatch` in <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/keyring.go>), so that
//! what stands there can be put into the settings as it is.
//!
//! A host, with `*` for any part of a label, and after it, where they matter, a port and the beginning of a path:
//! `*.dkr.ecr.*.amazonaws.com`, `registry.example:5000/team`. A `*` never reaches over a dot.

use cache_registry_policy_sdk::Image;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// As it was written, in lower case.
    text: String,
    /// Where the host ends.
    host: usize,
    /// Where the path begins, or would.
    path: usize,
}

/// No image has a longer name.
const LONGEST: usize = 255;

/// An image, taken apart once for all patterns.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    host: &'a str,
    /// With its colon; empty where there is none.
    port: &'a str,
    repository: &'a str,
}

impl<'a> From<&'a Image> for Asked<'a> {
    fn from(image: &'a Image) -> Self {
        let (host, port) = image.registry.split_at(image.registry.rfind(':').unwrap_or(image.registry.len()));
        Self { host, port, repository: &image.repository }
    }
}

impl Pattern {
    /// Reads it; the case of letters does not matter. `None` where it is none.
    ///
    /// In one pass, as this is done for every request in a guest.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = text.as_bytes();
        let run = |from: usize, is_part: fn(u8) -> bool| {
            bytes[from..].iter().position(|byte| !is_part(*byte)).map_or(bytes.len(), |length| from + length)
        };
        let (mut host, mut begin) = (0, 0);
        loop {
            host = run(host, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*'));
            if host == begin {
                return None;
            }
            if bytes.get(host) != Some(&b'.') {
                break;
            }
            host += 1;
            begin = host;
        }
        let mut path = host;
        if bytes.get(host) == Some(&b':') {
            path = run(host + 1, |byte| byte.is_ascii_digit());
            if !(1..=5).contains(&(path - host - 1)) {
                return None;
            }
        }
        if bytes.get(path) == Some(&b'/') {
            path += 1;
        } else if path != bytes.len() {
            return None;
        }
        let end = run(path, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/'));
        (end == bytes.len()).then(|| Self { text: text.to_ascii_lowercase(), host, path })
    }

    /// True where it means the image.
    pub(crate) fn means(&self, asked: Asked<'_>) -> bool {
        let (host, rest) = self.text.split_at(self.host);
        let (port, path) = rest.split_at(self.path - self.host);
        host_matches(host, asked.host) && port.trim_end_matches('/') == asked.port && asked.repository.starts_with(path)
    }

    /// As it was written, in lower case.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Label for label: as many, and each fits. From the end, where hosts differ.
fn host_matches(pattern: &str, host: &str) -> bool {
    let (mut patterns, mut labels) = (pattern.rsplit('.'), host.rsplit('.'));
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some(pattern), Some(label)) if label_matches(pattern, label) => {}
            _ => return false,
        }
    }
}

/// A star takes as little as it can, and where the rest does not fit then, a byte more. (What splits at a text instead
/// would be a third of the component.)
fn label_matches(pattern: &str, label: &str) -> bool {
    let (mut pattern, mut label) = (pattern.as_bytes(), label.as_bytes());
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, label, last_star) {
            ([b'*', behind @ ..], _, _) => {
                pattern = behind;
                last_star = Some((behind, label));
            }
            ([expected, behind @ ..], [byte, rest @ ..], _) if expected == byte => (pattern, label) = (behind, rest),
            ([], [], _) => return true,
            (_, _, Some((behind, [_, rest @ ..]))) => {
                (pattern, label) = (behind, rest);
                last_star = Some((behind, rest));
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::testing;
    use proptest::prelude::*;
    use rstest::rstest;

    fn means(pattern: &str, image: &str) -> bool {
        Pattern::read(pattern).unwrap().means((&testing::image(&format!("{image}:1"))).into())
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
            assert!(!Pattern::read(pattern).unwrap().means((&image).into()), "{pattern}");
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
    fn what_is_no_pattern_is_not_read(#[case] text: &str) {
        assert_eq!(Pattern::read(text), None);
    }

    /// Each takes its length times the label's at most, however many stars there are.
    #[test]
    fn many_stars_take_no_time() {
        let (stars, label) = ("*a".repeat(125), "a".repeat(2_000));
        assert!(label_matches(&stars, &label));
        assert!(!label_matches(&format!("{stars}b"), &label));
        assert!(!label_matches(&"a*".repeat(125), &"a".repeat(124)));
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
                label_matches(&pattern, &label),
                matches_by_definition(pattern.as_bytes(), label.as_bytes())
            );
        }

        #[test]
        fn no_text_panics(pattern in ".{0,40}", registry in ".{0,40}", repository in ".{0,20}") {
            if let Some(pattern) = Pattern::read(&pattern) {
                pattern.means((&Image { registry, repository, tag: None, digest: None }).into());
            }
        }

        #[test]
        fn a_host_means_itself_and_no_other(host in "[a-z0-9-]{1,8}(\\.[a-z0-9-]{1,8}){0,3}(:[0-9]{1,5})?", other in "[a-z0-9.:*-]{1,20}") {
            let image = |registry: &str| Image { registry: registry.to_owned(), ..testing::image("a.b/app:1") };
            let pattern = Pattern::read(&host).unwrap();
            prop_assert!(pattern.means((&image(&host)).into()));
            prop_assert_eq!(pattern.means((&image(&other)).into()), host == other);
        }
    }
}
