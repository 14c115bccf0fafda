//! Skips pods by namespace or label: their images are pulled as if there were no cache. See `docs/policies/skip.md`.

use std::collections::BTreeMap;

use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Verdict, export};
use serde::Deserialize;

/// The settings.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Skip {
    /// Names of namespaces.
    namespaces: Vec<String>,
    /// Labels with their values. One of them is enough.
    labels: BTreeMap<String, String>,
}

impl Filter for Skip {
    fn filter(&self, pod: &Pod, _: &Container, _: &Image) -> Verdict {
        let namespace = pod.namespace();
        if self.namespaces.contains(&namespace) {
            return Verdict::ignore(format!("pods in the namespace {namespace} are skipped"));
        }
        match self.labels.iter().find(|(key, value)| pod.label(key).as_ref() == Some(value)) {
            Some((key, value)) => Verdict::ignore(format!("pods labelled {key}={value} are skipped")),
            None => Verdict::Pass,
        }
    }
}

export!(filter: Skip);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::{Settings, testing};
    use rstest::rstest;

    const SETTINGS: &str = r#"{"namespaces": ["dev", "test"], "labels": {"team": "x", "cache": "no"}}"#;

    fn verdict(settings: &str, pod: &Pod) -> Verdict {
        let (container, image) = (testing::container("web"), testing::image("docker.io/library/nginx:1.27"));
        Skip::read(settings).unwrap().filter(pod, &container, &image)
    }

    #[rstest]
    #[case::namespace(testing::pod("test"), "pods in the namespace test are skipped")]
    #[case::label(testing::pod("shop").with_label("cache", "no"), "pods labelled cache=no are skipped")]
    fn what_the_settings_name_is_skipped(#[case] pod: Pod, #[case] reason: &str) {
        assert_eq!(verdict(SETTINGS, &pod), Verdict::ignore(reason));
    }

    #[rstest]
    #[case::nothing(testing::pod("shop"))]
    #[case::similar_namespace(testing::pod("developers"))]
    #[case::another_value(testing::pod("shop").with_label("team", "y"))]
    fn the_rest_is_left_to_others(#[case] pod: Pod) {
        assert_eq!(verdict(SETTINGS, &pod), Verdict::Pass);
    }

    #[test]
    fn without_settings_nothing_is_skipped() {
        assert_eq!(verdict("", &testing::pod("dev").with_label("team", "x")), Verdict::Pass);
    }

    #[rstest]
    #[case(r#"{"namespace": ["dev"]}"#)]
    #[case(r#"{"namespaces": "dev"}"#)]
    #[case(r#"{"labels": {"team": true}}"#)]
    fn wrong_settings_are_refused(#[case] settings: &str) {
        assert!(Skip::read(settings).is_err());
    }
}
