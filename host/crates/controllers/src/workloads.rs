use std::borrow::Cow;

use cache_registry_core::{NodeAddress, Reference};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::Deserialize;

use crate::index::Uses;
use crate::pod_sources::PodSpec;

/// The kinds of objects that make pods and belong to Kubernetes itself. `ReplicaSet`s are what a Deployment's revision
/// history is kept in, so what a rollback would start is in use as well. Pods of other owners are seen as pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Deployment, Self::ReplicaSet, Self::StatefulSet, Self::DaemonSet, Self::Job, Self::CronJob];

    /// How the API server knows it.
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::CronJob => ApiResource::erase::<CronJob>(&()),
        }
    }
}

/// What is read of an object of any of these kinds. The rest is skipped while it is received.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Workload {
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

impl Workload {
    /// One of which no more could be read.
    pub(crate) fn without_images(metadata: ObjectMeta) -> Self {
        Self { metadata, spec: Spec::default(), status: Status::default() }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    template: Template,
    /// Of a `CronJob`.
    job_template: JobTemplate,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Template {
    spec: PodSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct JobTemplate {
    spec: JobSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct JobSpec {
    template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Resource for Workload {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.kind).into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.group).into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.version).into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.api_version).into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        (&*resource.plural).into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What pods would ask for which the workload may start, whatever its number of replicas is now. The pull secrets of
/// their `ServiceAccount` are not known here: only a pod has them.
///
/// They are what its author wrote, before any policy; where that is on the node address, what the node would fetch. A
/// Job that has ended starts no pod any more.
pub(crate) fn uses(kind: Kind, workload: &Workload, node: &NodeAddress) -> Uses {
    if kind == Kind::Job && workload.status.conditions.iter().any(Condition::is_the_end) {
        return Uses::default();
    }
    let Spec { template, job_template } = &workload.spec;
    let pod = if kind == Kind::CronJob { &job_template.spec.template.spec } else { &template.spec };
    let images = pod.containers().filter_map(|container| container.image.parse::<Reference>().ok());
    let images = images.map(|image| node.source_of(&image).unwrap_or(image)).collect();
    Uses { images, pull_secrets: pod.pull_secrets() }
}

impl Condition {
    /// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions>
    fn is_the_end(&self) -> bool {
        matches!(&*self.r#type, "Complete" | "Failed") && self.status == "True"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn found(kind: Kind, workload: Value) -> Vec<String> {
        let workload: Workload = serde_json::from_value(workload).unwrap();
        let uses = uses(kind, &workload, &NodeAddress::default());
        let mut images: Vec<_> = uses.images.iter().map(ToString::to_string).collect();
        images.sort();
        images
    }

    fn template() -> Value {
        json!({"spec": {
            "initContainers": [{"name": "init", "image": "busybox"}],
            "containers": [
                {"name": "web", "image": "nginx:1.27"},
                {"name": "side", "image": "localhost:7439/reg.example_5000/app:1"},
                {"name": "none"},
            ],
        }})
    }

    const ALL: [&str; 3] =
        ["docker.io/library/busybox:latest", "docker.io/library/nginx:1.27", "reg.example:5000/app:1"];

    #[rstest]
    #[case(Kind::Deployment)]
    #[case(Kind::ReplicaSet)]
    #[case(Kind::StatefulSet)]
    #[case(Kind::DaemonSet)]
    #[case(Kind::Job)]
    fn a_template_counts_with_no_replica_at_all(#[case] kind: Kind) {
        let workload = json!({"metadata": {"name": "w"}, "spec": {"replicas": 0, "template": template()}});
        assert_eq!(found(kind, workload), ALL);
    }

    #[test]
    fn the_template_of_a_cron_job_is_that_of_its_jobs() {
        let spec = json!({"schedule": "@daily", "suspend": true, "jobTemplate": {"spec": {"template": template()}}});
        assert_eq!(found(Kind::CronJob, json!({"metadata": {"name": "w"}, "spec": spec})), ALL);
    }

    #[rstest]
    #[case("Complete", "True", 0)]
    #[case("Failed", "True", 0)]
    #[case("Failed", "False", 3)]
    #[case("Suspended", "True", 3)]
    fn a_job_that_has_ended_uses_nothing(#[case] kind: &str, #[case] status: &str, #[case] count: usize) {
        let conditions = json!([{"type": kind, "status": status}]);
        let workload = json!({"metadata": {}, "spec": {"template": template()}, "status": {"conditions": conditions}});
        assert_eq!(found(Kind::Job, workload.clone()).len(), count);
        // A Deployment's conditions are of other kinds; should one have the same name, it means something else.
        assert_eq!(found(Kind::Deployment, workload), ALL);
    }
}
