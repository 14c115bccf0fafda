//! Leaves alone what named operators own: some compare a pod's images with those that they asked for, find them renamed,
//! and make the pod again, for ever. See `docs/policies/ignore-owner.md`.

use cache_registry_policy_sdk::{Container, Filter, Image, Owner, Pod, Verdict, export};
use serde::Deserialize;

/// The settings. Without any: the clusters of `CloudNativePG`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IgnoreOwner {
    /// Who owns the pods that are left alone.
    owners: Vec<Kind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    /// The API group: `postgresql.cnpg.io`. Versions do not matter.
    group: String,
    /// The kind: `Cluster`. Without one, every kind of the group.
    kind: Option<String>,
}

impl Default for IgnoreOwner {
    fn default() -> Self {
        Self { owners: vec![Kind { group: "postgresql.cnpg.io".to_owned(), kind: Some("Cluster".to_owned()) }] }
    }
}

impl Filter for IgnoreOwner {
    fn filter(&self, pod: &Pod, _: &Container, _: &Image) -> Verdict {
        match pod.owner() {
            Some(owner) if self.owners.iter().any(|kind| kind.has(&owner)) => Verdict::ignore(format!(
                "it belongs to {} {}, whose operator minds renamed images",
                owner.kind, owner.name
            )),
            _ => Verdict::Pass,
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.owners.iter().find(|kind| !kind.group.contains('.') || kind.group.contains('/')) {
            Some(Kind { group, .. }) => {
                Err(format!("\"{group}\" is not the API group of an operator; write it like postgresql.cnpg.io"))
            }
            None => Ok(()),
        }
    }
}

impl Kind {
    fn has(&self, owner: &Owner) -> bool {
        // What has no group (`v1`) is Kubernetes' own.
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        group == self.group && self.kind.as_ref().is_none_or(|kind| *kind == owner.kind)
    }
}

export!(filter: IgnoreOwner);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::{Settings, testing};
    use rstest::rstest;

    fn verdict(settings: &str, pod: &Pod) -> Verdict {
        let (container, image) = (testing::container("postgres"), testing::image("ghcr.io/cnpg/postgresql:17"));
        IgnoreOwner::read(settings).unwrap().filter(pod, &container, &image)
    }

    fn owned_by(api_version: &str, kind: &str) -> Pod {
        testing::pod("shop").with_owner(api_version, kind, "db")
    }

    #[rstest]
    #[case::by_default("", "postgresql.cnpg.io/v1", "Cluster")]
    #[case::another_version("", "postgresql.cnpg.io/v2", "Cluster")]
    #[case::a_kind(r#"{"owners": [{"group": "kafka.example", "kind": "Broker"}]}"#, "kafka.example/v1", "Broker")]
    #[case::a_group(r#"{"owners": [{"group": "kafka.example"}]}"#, "kafka.example/v1", "Connector")]
    fn what_the_operator_owns_is_left_alone(#[case] settings: &str, #[case] api_version: &str, #[case] kind: &str) {
        let reason = format!("it belongs to {kind} db, whose operator minds renamed images");
        assert_eq!(verdict(settings, &owned_by(api_version, kind)), Verdict::ignore(reason));
    }

    #[rstest]
    #[case::nobody(testing::pod("shop"))]
    #[case::another_kind(owned_by("postgresql.cnpg.io/v1", "Pooler"))]
    #[case::another_group(owned_by("cluster.example/v1", "Cluster"))]
    #[case::kubernetes(owned_by("v1", "Cluster"))]
    fn the_rest_is_left_to_others(#[case] pod: Pod) {
        assert_eq!(verdict("", &pod), Verdict::Pass);
    }

    #[test]
    fn who_names_others_does_not_mean_the_default() {
        let others = r#"{"owners": [{"group": "kafka.example"}]}"#;
        assert_eq!(verdict(others, &owned_by("postgresql.cnpg.io/v1", "Cluster")), Verdict::Pass);
    }

    #[rstest]
    #[case("apps")]
    #[case("")]
    #[case("postgresql.cnpg.io/v1")]
    fn what_is_no_group_is_refused(#[case] group: &str) {
        let settings = format!(r#"{{"owners": [{{"group": "{group}"}}]}}"#);
        let error = IgnoreOwner::read(&settings).unwrap().check().unwrap_err();
        assert!(error.starts_with(&format!("\"{group}\" is not the API group of an operator")), "{error}");
    }
}
