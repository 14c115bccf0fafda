use std::collections::HashSet;
use std::sync::Arc;

use cache_registry_api::{ImagesAnnotation, Outcome, labels};
use cache_registry_core::{NodeAddress, Reference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// What is read of a pod. The rest is skipped while it is received: ten thousand pods pass through at every start.
#[derive(Debug, Clone, Deserialize, kube::Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

/// The containers of a pod, by list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    pub(crate) ephemeral_containers: Vec<Container>,
    /// Those of its `ServiceAccount` are among them: admission has put them here.
    pub(crate) image_pull_secrets: Vec<NamedSecret>,
}

/// A Secret in the namespace of who names it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NamedSecret {
    #[serde(default)]
    name: String,
}

impl PodSpec {
    /// Of all lists.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers).chain(&self.ephemeral_containers)
    }

    /// The names of the Secrets that its images are pulled with.
    pub(crate) fn pull_secrets(&self) -> Vec<Arc<str>> {
        let names = self.image_pull_secrets.iter().map(|secret| secret.name.as_str());
        names.filter(|name| !name.is_empty()).map(Arc::from).collect()
    }
}

/// A container of any kind.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Container {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) image: String,
}

/// How far a pod is.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct PodStatus {
    #[serde(default)]
    pub(crate) phase: String,
}

/// An image that the cache shall hold for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// Where the cache fetches it from.
    pub(crate) source: Reference,
    /// What the pod's author wrote, where a policy has something else fetched for it.
    pub(crate) original: Option<Reference>,
}

/// The images that the cache shall hold for a pod.
///
/// Those are the images that the pod's nodes pull from the node address, and nothing else: the annotation is written
/// by whoever may create pods, so an entry counts only where the container really has the image that is computed from
/// the entry's source. A container on the node address without such an entry has its source read back from its image:
/// the API server drops what the webhook writes to the metadata when an ephemeral container is added, and nodes ask
/// the proxy for that image all the same.
///
/// A pod that has ended (`Succeeded`, `Failed`) uses nothing any more: its containers are never started again.
pub(crate) fn wanted(pod: &Pod, node: &NodeAddress) -> HashSet<Wanted> {
    if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
        return HashSet::new();
    }
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(labels::IMAGES_ANNOTATION));
    let recorded = annotation.and_then(|text| text.parse::<ImagesAnnotation>().ok()).unwrap_or_default();
    pod.spec.containers().filter_map(|container| wanted_by(container, &recorded, node)).collect()
}

fn wanted_by(container: &Container, recorded: &ImagesAnnotation, node: &NodeAddress) -> Option<Wanted> {
    let image: Reference = container.image.parse().ok().filter(|image| node.serves(image))?;
    let entry = recorded.0.get(&container.name);
    let wanted = match entry.map(|entry| (&entry.outcome, entry.original.parse::<Reference>())) {
        Some((Outcome::Rewritten(source), original)) if node.of(source) == image => {
            Wanted { source: source.clone(), original: original.ok().filter(|original| original != source) }
        }
        _ => Wanted { source: node.source_of(&image)?, original: None },
    };
    // What the proxy serves cannot be filled from the proxy.
    (!node.serves(&wanted.source)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn found(pod: Value) -> Vec<String> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let wanted = wanted(&pod, &NodeAddress::default());
        let mut sources: Vec<_> = wanted.iter().map(|wanted| wanted.source.to_string()).collect();
        sources.sort();
        sources
    }

    fn annotated(annotation: &str, image: &str) -> Value {
        json!({
            "metadata": {"annotations": {"cache-registry.enix.io/images": annotation}},
            "spec": {"containers": [{"name": "web", "image": image}]},
        })
    }

    const NGINX: &str = "localhost:7439/docker.io/library/nginx:1.27";

    #[test]
    fn containers_of_every_kind_count_once_each_image() {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "annotations": {"cache-registry.enix.io/images":
                r#"{"init":{"original":"a:1","source":"docker.io/library/a:1"},
                    "web":{"original":"reg.example:5000/b:2","source":"reg.example:5000/b:2"},
                    "again":{"original":"a:1","source":"docker.io/library/a:1"},
                    "side":{"original":"c","leftAlone":"imagePullPolicy is Never"}}"#}},
            "spec": {
                "nodeName": "node",
                "initContainers": [{"name": "init", "image": "localhost:7439/docker.io/library/a:1", "env": []}],
                "containers": [
                    {"name": "web", "image": "localhost:7439/reg.example_5000/b:2"},
                    {"name": "again", "image": "localhost:7439/docker.io/library/a:1"},
                    {"name": "side", "image": "c"},
                ],
                "ephemeralContainers": [{"name": "debug", "image": "localhost:7439/docker.io/library/busybox:1"}],
            },
            "status": {"phase": "Running"},
        });
        assert_eq!(found(pod), ["docker.io/library/a:1", "docker.io/library/busybox:1", "reg.example:5000/b:2"]);
    }

    #[rstest]
    #[case("nginx:1.27", None)]
    #[case("docker.io/library/nginx:1.27", None)]
    #[case("hub.example/nginx:1.27", Some("hub.example/nginx:1.27"))]
    #[case("not a reference", None)]
    fn what_the_author_wrote_is_known_where_a_policy_fetches_something_else(
        #[case] original: &str,
        #[case] expected: Option<&str>,
    ) {
        let entry = json!({"web": {"original": original, "source": "docker.io/library/nginx:1.27"}});
        let pod = serde_json::from_value(annotated(&entry.to_string(), NGINX)).unwrap();
        let wanted: Vec<_> = wanted(&pod, &NodeAddress::default()).into_iter().collect();
        assert_eq!(wanted[0].source.to_string(), "docker.io/library/nginx:1.27");
        assert_eq!(wanted[0].original.as_ref().map(ToString::to_string).as_deref(), expected);
    }

    #[rstest]
    #[case::of_another_image(r#"{"web":{"original":"x","source":"docker.io/library/huge:1"}}"#)]
    #[case::of_another_container(r#"{"db":{"original":"x","source":"docker.io/library/huge:1"}}"#)]
    #[case::left_alone(r#"{"web":{"original":"x","leftAlone":"because"}}"#)]
    #[case::not_json("{")]
    #[case::not_an_entry(r#"{"web":7}"#)]
    fn a_claim_that_the_pod_does_not_bear_out_counts_for_nothing(#[case] annotation: &str) {
        assert_eq!(found(annotated(annotation, NGINX)), ["docker.io/library/nginx:1.27"]);
    }

    #[rstest]
    #[case::upstream("docker.io/library/nginx:1.27")]
    #[case::no_host("localhost:7439/nginx:1.27")]
    #[case::itself("localhost:7439/localhost_7439/docker.io/library/nginx:1.27")]
    #[case::not_a_reference("localhost:7439/../etc")]
    #[case::none("")]
    fn an_image_that_nodes_do_not_pull_from_the_cache_is_not_cached(#[case] image: &str) {
        let annotation = r#"{"web":{"original":"nginx:1.27","source":"docker.io/library/nginx:1.27"}}"#;
        assert_eq!(found(annotated(annotation, image)), Vec::<String>::new());
    }

    #[rstest]
    #[case("Pending", true)]
    #[case("Running", true)]
    #[case("Unknown", true)]
    #[case("Succeeded", false)]
    #[case("Failed", false)]
    fn a_pod_that_has_ended_uses_nothing(#[case] phase: &str, #[case] uses: bool) {
        let mut pod = annotated("{}", NGINX);
        pod["status"] = json!({"phase": phase});
        assert_eq!(found(pod).len(), usize::from(uses));
    }

    #[test]
    fn a_pod_being_deleted_still_runs() {
        let mut pod = annotated("{}", NGINX);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        assert_eq!(found(pod).len(), 1);
    }
}
