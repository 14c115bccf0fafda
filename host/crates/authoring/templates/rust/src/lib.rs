//! Leaves the pods of some namespaces alone.

use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Verdict, export};
use serde::Deserialize;

/// The settings: `namespaces: [ci, scratch]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Policy {
    namespaces: Vec<String>,
}

impl Filter for Policy {
    fn filter(&self, pod: &Pod, _container: &Container, _image: &Image) -> Verdict {
        let namespace = pod.namespace();
        if self.namespaces.contains(&namespace) {
            return Verdict::ignore(format!("images are not cached for namespace {namespace}"));
        }
        // No opinion: the next policy is asked, and those that are built in come last.
        Verdict::Pass
    }

    fn check(&self) -> Result<(), String> {
        if self.namespaces.iter().any(String::is_empty) {
            return Err("a namespace has a name".to_owned());
        }
        Ok(())
    }
}

export!(filter: Policy);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::testing::{container, image, pod};

    fn verdict(namespace: &str) -> Verdict {
        let policy = Policy { namespaces: vec!["ci".to_owned()] };
        policy.filter(&pod(namespace), &container("web"), &image("docker.io/library/nginx:1.27"))
    }

    #[test]
    fn named_namespaces_are_left_alone() {
        assert_eq!(verdict("ci"), Verdict::ignore("images are not cached for namespace ci"));
    }

    #[test]
    fn other_policies_are_asked_about_the_rest() {
        assert_eq!(verdict("shop"), Verdict::Pass);
    }
}
