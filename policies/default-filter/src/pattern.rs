//! Which images a pattern means: the form of `matchImages` in a kubelet's `CredentialProviderConfig`, and its meaning
//! (`URLsMatch` in <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/keyring.go>), so that
//! what stands there can be put into the settings as it is.
//!
//! A host, with `*` for any part of a label, and after it, where they matter, a port and the beginning of a path:
//! `*.dkr.ecr.*.amazonaws.com`, `registry.example:5000/team`. A `*` never reaches over a dot.

use cache_registry_policy_sdk::Image;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Reads it; the case of letters does not matter. `None` where it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (host, port, path) = parts(text);
        let is_of_a_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '*');
        let is_label = |label: &str| !label.is_empty() && label.chars().all(is_of_a_label);
        let is_port = |port: &str| (1..=5).contains(&port.len()) && port.chars().all(|c| c.is_ascii_digit());
        let is_of_a_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        let is_one = host.split('.').all(is_label) && port.is_none_or(is_port) && path.chars().all(is_of_a_path);
        is_one.then(|| Self(text.to_ascii_lowercase()))
    }

    /// True where it means `image`.
    pub(crate) fn means(&self, image: &Image) -> bool {
        let (host, port, path) = parts(&self.0);
        let (image_host, image_port, _) = parts(&image.registry);
        port == image_port && host_matches(host, image_host) && image.repository.starts_with(path)
    }

    /// As it was written, in lower case.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The host, the port, and what is behind the first slash.
fn parts(text: &str) -> (&str, Option<&str>, &str) {
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port), path),
        None => (authority, None, path),
    }
}

/// Label for label: as many, and each fits.
fn host_matches(pattern: &str, host: &str) -> bool {
    let mut labels = host.split('.');
    pattern.split('.').all(|pattern| labels.next().is_some_and(|label| label_matches(pattern, label)))
        && labels.next().is_none()
}

/// The first and the last part are where they have to be, and of those between each is at the first place that is left:
/// nothing is tried twice, however many stars there are.
fn label_matches(pattern: &str, label: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut label) = label.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, behind)) = label.split_once(part) else { return false };
        label = behind;
    }
    label.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::testing;
    use proptest::prelude::*;
    use rstest::rstest;

    fn means(pattern: &str, image: &str) -> bool {
        Pattern::read(pattern).unwrap().means(&testing::image(&format!("{image}:1")))
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
            assert!(!Pattern::read(pattern).unwrap().means(&image), "{pattern}");
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
    fn what_is_no_pattern_is_not_read(#[case] text: &str) {
        assert_eq!(Pattern::read(text), None);
    }

    #[test]
    fn long_ones_take_no_longer_than_they_are() {
        let stars = "*a".repeat(50_000);
        let label = "a".repeat(100_000);
        assert!(label_matches(&stars, &label));
        assert!(!label_matches(&format!("{stars}b"), &label));
        assert!(!label_matches(&"a*".repeat(50_001), &"a".repeat(50_000)));
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
                pattern.means(&Image { registry, repository, tag: None, digest: None });
            }
        }

        #[test]
        fn a_host_means_itself_and_no_other(host in "[a-z0-9-]{1,8}(\\.[a-z0-9-]{1,8}){0,3}(:[0-9]{1,5})?", other in "[a-z0-9.:*-]{1,20}") {
            let image = |registry: &str| Image { registry: registry.to_owned(), ..testing::image("a.b/app:1") };
            let pattern = Pattern::read(&host).unwrap();
            prop_assert!(pattern.means(&image(&host)));
            prop_assert_eq!(pattern.means(&image(&other)), host == other);
        }
    }
}
