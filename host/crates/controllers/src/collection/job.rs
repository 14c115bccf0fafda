//! What a Job of a garbage collection says, by its status and its pods'.

use cache_registry_api::labels::COLLECTION_RUN_ANNOTATION;
use cache_registry_volume::Size;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;

use super::step::{self, Stage};

/// The containers that tell how much is on the volume, before and after.
const BEFORE: &str = "before";
const AFTER: &str = "after";

/// The Job as [`step::next_step`] sees it.
pub(crate) fn observed(job: &Job, pods: &[Pod]) -> step::Job {
    let run = job.annotations().get(COLLECTION_RUN_ANNOTATION).cloned().unwrap_or_default();
    step::Job { run, stage: stage(job, pods) }
}

fn stage(job: &Job, pods: &[Pod]) -> Stage {
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default();
    if job.metadata.deletion_timestamp.is_some() {
        Stage::Ending
    } else if condition(job, "Complete").is_some() {
        Stage::Succeeded
    } else if let Some(failed) = condition(job, "Failed") {
        Stage::Failed(why(failed, pods))
    } else if is_suspended {
        Stage::Suspended
    } else {
        Stage::Running
    }
}

fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The pods that may still have the volume in use: those of which not every container has ended.
pub(crate) fn alive(pods: &[Pod]) -> usize {
    let has_ended = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    pods.iter().filter(|pod| !has_ended(pod)).count()
}

/// How much was on the volume before and after; `None` where no pod tells.
pub(crate) fn sizes(pods: &[Pod]) -> Option<(Size, Size)> {
    pods.iter().find_map(|pod| {
        let said = |name: &str| {
            let ended = ended(pod).find_map(|(container, ended)| (container.name == name).then_some(ended))?;
            serde_json::from_str(ended.message.as_deref()?).ok()
        };
        Some((said(BEFORE)?, said(AFTER)?))
    })
}

/// Why a Job has failed: the last words of the container that did, and what became of the pod.
fn why(failed: &JobCondition, pods: &[Pod]) -> String {
    let reason = failed.reason.as_deref().unwrap_or("for no reason that is told");
    let of_pods = pods.iter().filter_map(|pod| {
        let reason = pod.status.as_ref()?.reason.as_deref()?;
        Some(format!("its pod: {reason}"))
    });
    let of_containers = pods.iter().filter_map(|pod| {
        let (container, ended) = ended(pod).find(|(_, ended)| ended.exit_code != 0)?;
        let (code, reason) = (ended.exit_code, ended.reason.as_deref().unwrap_or_default());
        let said = ended.message.as_deref().unwrap_or_default().trim();
        Some(format!("container {} ended with status {code} {reason}: {said}", container.name))
    });
    let all = [format!("the Job has failed ({reason})")].into_iter().chain(of_pods).chain(of_containers);
    all.collect::<Vec<_>>().join("; ")
}

fn ended(pod: &Pod) -> impl Iterator<Item = (&ContainerStatus, &ContainerStateTerminated)> {
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let then = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    first.iter().chain(then).filter_map(|container| Some((container, container.state.as_ref()?.terminated.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(spec: &Value, conditions: &Value) -> Job {
        let annotations = json!({ COLLECTION_RUN_ANNOTATION: "ours" });
        serde_json::from_value(json!({
            "metadata": { "annotations": annotations }, "spec": spec, "status": { "conditions": conditions },
        }))
        .unwrap()
    }

    fn pod(phase: &str, containers: &[(&str, i32, &str)]) -> Pod {
        let status = |(name, code, message): &(&str, i32, &str)| {
            let terminated = json!({ "exitCode": code, "reason": "Error", "message": message });
            json!({ "name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "state": { "terminated": terminated } })
        };
        let (last, first) = containers.split_last().unwrap();
        let first: Vec<_> = first.iter().map(status).collect();
        serde_json::from_value(json!({
            "status": { "phase": phase, "initContainerStatuses": first, "containerStatuses": [status(last)] },
        }))
        .unwrap()
    }

    fn stage_of(spec: &Value, conditions: &Value) -> Stage {
        observed(&job(spec, conditions), &[]).stage
    }

    #[test]
    fn a_job_is_at_one_stage() {
        let template = json!({ "spec": { "containers": [] } });
        let suspended = json!({ "template": template, "suspend": true });
        let started = json!({ "template": template, "suspend": false });
        assert_eq!(stage_of(&suspended, &json!([{ "type": "Suspended", "status": "True" }])), Stage::Suspended);
        // Its condition is still of when it was suspended.
        assert_eq!(stage_of(&started, &json!([{ "type": "Suspended", "status": "True" }])), Stage::Running);
        assert_eq!(stage_of(&started, &json!([{ "type": "Complete", "status": "True" }])), Stage::Succeeded);
        // That it will fail is decided, and its pods still run.
        assert_eq!(stage_of(&started, &json!([{ "type": "FailureTarget", "status": "True" }])), Stage::Running);
        let mut ending = job(&started, &json!([{ "type": "Complete", "status": "True" }]));
        ending.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(observed(&ending, &[]), step::Job { run: "ours".to_owned(), stage: Stage::Ending });
    }

    #[test]
    fn a_failure_has_the_last_words_of_the_container_that_failed() {
        let failed = json!([{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded" }]);
        let pods = [pod("Failed", &[("before", 0, "{}"), ("collect", 1, "failed to mark: \n"), ("after", 0, "")])];
        let Stage::Failed(why) = stage(&job(&json!({ "template": {} }), &failed), &pods) else { panic!("not failed") };
        assert_eq!(
            why,
            "the Job has failed (BackoffLimitExceeded); container collect ended with status 1 Error: failed to mark:"
        );
    }

    #[test]
    fn sizes_are_what_the_containers_said() {
        let (before, after) = (r#"{"blobs":3,"bytes":30}"#, r#"{"blobs":1,"bytes":10}"#);
        let told = pod("Succeeded", &[("before", 0, before), ("collect", 0, ""), ("after", 0, after)]);
        let silent = pod("Failed", &[("before", 0, before), ("after", 1, "")]);
        let expected = (Size { blobs: 3, bytes: 30 }, Size { blobs: 1, bytes: 10 });
        assert_eq!(sizes(&[silent.clone(), told]), Some(expected));
        assert_eq!(sizes(&[silent]), None);
    }

    #[test]
    fn a_pod_is_alive_until_all_of_it_has_ended() {
        let pods =
            ["Pending", "Running", "Unknown", "Succeeded", "Failed"].map(|phase| pod(phase, &[("after", 0, "")]));
        assert_eq!(alive(&pods), 3);
    }
}
