//! Tests of the whole of what is computed: a review and verdicts in, a patch and warnings out.

use cache_registry_api::labels::{IMAGES_ANNOTATION, OPT_OUT_LABEL, REWRITTEN_LABEL};
use cache_registry_core::{ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, PullPolicy, Verdict};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::conclusion::{Conclusion, Tally, conclude};
use crate::ground::Ground;
use crate::inquiry::{Examined, examine};
use crate::review::{Malformed, parse};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const LABEL_PATH: &str = "/metadata/labels/cache-registry.enix.io~1images-rewritten";
const ANNOTATION_PATH: &str = "/metadata/annotations/cache-registry.enix.io~1images";

// ---- what stands in for the API server and for the policies

fn review(operation: &str, sub_resource: &str, object: &Value, before: Option<&Value>) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": sub_resource,
            "operation": operation,
            "namespace": "team-a",
            "userInfo": {"username": "somebody"},
            "object": object,
            "oldObject": before,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

fn pod(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "creationTimestamp": null}, "spec": spec})
}

fn web(image: &str) -> Value {
    pod(&json!({"containers": [{"name": "web", "image": image}]}))
}

fn with_annotation(mut pod: Value, images: &Value) -> Value {
    pod["metadata"]["annotations"][IMAGES_ANNOTATION] = json!(images.to_string());
    pod
}

fn annotation(pod: &Value) -> Value {
    let text = pod["metadata"]["annotations"][IMAGES_ANNOTATION].as_str();
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

fn verdict(decision: Decision) -> Verdict {
    Verdict { decision, policy: Some("a-policy".to_owned()), cached_by: None, warnings: Vec::new() }
}

fn rewritten(image: &str, source: &str) -> Verdict {
    verdict(Decision::Rewritten { image: image.parse().unwrap(), source: source.parse().unwrap() })
}

fn left_alone(reason: &str) -> Verdict {
    verdict(Decision::LeftAlone { reason: reason.to_owned() })
}

/// What the built-in policies decide.
fn built_in(container: &ContainerFacts) -> Verdict {
    if container.pull_policy == PullPolicy::Never {
        return left_alone("imagePullPolicy is Never");
    }
    let (image, source) = (NodeAddress::default().of(&container.image), container.image.clone());
    verdict(Decision::Rewritten { image, source })
}

/// A policy that sends pulls to a mirror, which is not the node address.
fn mirror(container: &ContainerFacts) -> Verdict {
    match container.image.to_string().strip_prefix("docker.io/") {
        Some(path) => rewritten(&format!("mirror.example/{path}"), &container.image.to_string()),
        None => built_in(container),
    }
}

struct Answer {
    /// What the policies were asked.
    asked: Vec<ContainerFacts>,
    patch: Value,
    /// The pod with the patch applied, as the API server does it.
    pod: Value,
    warnings: Vec<String>,
    tally: Vec<Tally>,
}

impl Answer {
    fn to(review: &Value, policy: impl Fn(&ContainerFacts) -> Verdict) -> Option<Self> {
        Self::with_verdicts(review, |asked| asked.iter().map(&policy).collect())
    }

    fn with_verdicts(review: &Value, decide: impl Fn(&[ContainerFacts]) -> Vec<Verdict>) -> Option<Self> {
        let body = serde_json::to_vec(review).unwrap();
        let request = parse(&body).unwrap();
        let node = NodeAddress::default();
        let Examined::Inquiry(mut inquiry) = examine(&request, &node.clone().into()).unwrap() else { return None };
        let asked = inquiry.take_questions();
        let Conclusion { patch, warnings, tally, .. } = conclude(&inquiry, &decide(&asked), &node);
        let mut pod = review["request"]["object"].clone();
        json_patch::patch(&mut pod, &patch).expect("the API server can apply the patch");
        Some(Self { asked, patch: json!(patch), pod, warnings, tally })
    }

    fn is_no_patch(&self) -> bool {
        self.patch == json!([])
    }
}

fn create(pod: &Value) -> Answer {
    Answer::to(&review("CREATE", "", pod, None), built_in).unwrap()
}

fn update(before: &Value, pod: &Value) -> Answer {
    Answer::to(&review("UPDATE", "", pod, Some(before)), built_in).unwrap()
}

// ---- a pod that is created

#[test]
fn containers_of_every_kind_are_rewritten_labelled_and_recorded() {
    let pod = pod(&json!({
        "initContainers": [{"name": "setup", "image": "busybox"}, {"name": "mesh", "image": "ghcr.io/mesh/proxy:2", "restartPolicy": "Always"}],
        "containers": [{"name": "web", "image": "nginx:1.27"}],
        "ephemeralContainers": [{"name": "debug", "image": "reg.example:5000/tools:1"}],
        "volumes": [{"name": "data", "image": {"reference": "quay.io/data/set:1", "pullPolicy": "Always"}}],
    }));
    let answer = create(&pod);
    let images = concat!(
        r#"{"debug":{"original":"reg.example:5000/tools:1","source":"reg.example:5000/tools:1"},"#,
        r#""mesh":{"original":"ghcr.io/mesh/proxy:2","source":"ghcr.io/mesh/proxy:2"},"#,
        r#""setup":{"original":"busybox","source":"docker.io/library/busybox:latest"},"#,
        r#""web":{"original":"nginx:1.27","source":"docker.io/library/nginx:1.27"}}"#,
    );
    let expected = json!([
        {"op": "test", "path": "/spec/initContainers/0/image", "value": "busybox"},
        {"op": "replace", "path": "/spec/initContainers/0/image", "value": "localhost:7439/docker.io/library/busybox:latest"},
        {"op": "test", "path": "/spec/initContainers/1/image", "value": "ghcr.io/mesh/proxy:2"},
        {"op": "replace", "path": "/spec/initContainers/1/image", "value": "localhost:7439/ghcr.io/mesh/proxy:2"},
        {"op": "test", "path": "/spec/containers/0/image", "value": "nginx:1.27"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": "localhost:7439/docker.io/library/nginx:1.27"},
        {"op": "test", "path": "/spec/ephemeralContainers/0/image", "value": "reg.example:5000/tools:1"},
        {"op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": "localhost:7439/reg.example_5000/tools:1"},
        {"op": "add", "path": "/metadata/labels", "value": {REWRITTEN_LABEL: "true"}},
        {"op": "add", "path": "/metadata/annotations", "value": {IMAGES_ANNOTATION: images}},
    ]);
    assert_eq!(answer.patch, expected);
    assert_eq!(answer.tally, [Tally::Rewritten; 4]);
    assert_eq!(answer.warnings, Vec::<String>::new());
}

#[test]
fn labels_and_annotations_that_are_there_stay_and_keys_are_escaped() {
    let mut pod = web("nginx");
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod["metadata"]["annotations"] = json!({"a/b~c": "x"});
    let answer = create(&pod);
    assert_eq!(answer.patch[2], json!({"op": "add", "path": LABEL_PATH, "value": "true"}));
    assert_eq!(answer.patch[3]["path"], json!(ANNOTATION_PATH));
    assert_eq!(answer.pod["metadata"]["labels"], json!({"app": "web", REWRITTEN_LABEL: "true"}));
    assert_eq!(answer.pod["metadata"]["annotations"]["a/b~c"], json!("x"));
}

#[test]
fn maps_that_are_null_are_made() {
    let mut pod = web("nginx");
    pod["metadata"]["labels"] = Value::Null;
    pod["metadata"]["annotations"] = Value::Null;
    let answer = create(&pod);
    assert_eq!(answer.pod["metadata"]["labels"], json!({REWRITTEN_LABEL: "true"}));
    assert!(annotation(&answer.pod)["web"]["source"].is_string());
}

#[rstest]
#[case::never(json!({"name": "web", "image": "nginx", "imagePullPolicy": "Never"}), "imagePullPolicy is Never")]
#[case::unparsable(json!({"name": "web", "image": "Not An Image"}), "is not an image reference")]
#[case::id(json!({"name": "web", "image": format!("sha256:{HEX}")}), "the ID of an image on the node")]
#[case::empty(json!({"name": "web", "image": ""}), "the container has no image")]
#[case::absent(json!({"name": "web"}), "the container has no image")]
fn what_is_left_alone_is_recorded_with_the_reason_and_not_labelled(#[case] container: Value, #[case] reason: &str) {
    let before = pod(&json!({"containers": [container]}));
    let answer = create(&before);
    let entry = &annotation(&answer.pod)["web"];
    assert_eq!(entry["original"], json!(container["image"].as_str().unwrap_or_default()));
    assert!(entry["leftAlone"].as_str().unwrap().contains(reason), "{entry}");
    assert_eq!(answer.pod["metadata"].get("labels"), None);
    assert_eq!(answer.pod["spec"], before["spec"]);
    assert_eq!(answer.tally, [Tally::LeftAlone]);
}

#[rstest]
#[case::of_a_pod_with_some(true, json!([{"name": "regcred"}]), true)]
#[case::of_a_pod_without(true, json!([]), false)]
#[case::where_they_are_read(false, json!([{"name": "regcred"}]), false)]
fn pull_secrets_that_are_not_to_be_read_leave_their_pod_alone(
    #[case] leaves_pull_secrets_alone: bool,
    #[case] secrets: Value,
    #[case] is_left_alone: bool,
) {
    let mut pod = web("nginx");
    pod["spec"]["imagePullSecrets"] = secrets;
    let body = serde_json::to_vec(&review("CREATE", "", &pod, None)).unwrap();
    let ground = Ground { node: NodeAddress::default(), leaves_pull_secrets_alone };
    let request = parse(&body).unwrap();
    let Examined::Inquiry(mut inquiry) = examine(&request, &ground).unwrap() else { panic!("passed") };
    assert_eq!(inquiry.take_questions().is_empty(), is_left_alone);
    let conclusion =
        conclude(&inquiry, &if is_left_alone { vec![] } else { vec![left_alone("a policy")] }, &ground.node);
    let text = json!(conclusion.patch).to_string();
    assert_eq!(text.contains("its pod has pull secrets"), is_left_alone, "{text}");
}

#[test]
fn a_label_that_is_not_true_is_taken_away() {
    let mut pod = pod(&json!({"containers": [{"name": "web", "image": "nginx", "imagePullPolicy": "Never"}]}));
    pod["metadata"]["labels"] = json!({REWRITTEN_LABEL: "true", "app": "web"});
    assert_eq!(create(&pod).pod["metadata"]["labels"], json!({"app": "web"}));
}

#[rstest]
#[case::opted_out("labels", OPT_OUT_LABEL, "ignore")]
#[case::mirror("annotations", "kubernetes.io/config.mirror", "0a1b2c")]
fn pods_that_are_not_ours_are_not_looked_at(
    #[case] map: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[values("CREATE", "UPDATE")] operation: &str,
    #[values("", "ephemeralcontainers")] sub_resource: &str,
) {
    let mut pod = web("nginx");
    pod["metadata"][map] = json!({key: value, REWRITTEN_LABEL: "true"});
    let review = review(operation, sub_resource, &pod, Some(&web("nginx:1")));
    assert!(Answer::to(&review, built_in).is_none());
}

#[test]
fn another_value_of_the_opt_out_label_means_nothing() {
    let mut pod = web("nginx");
    pod["metadata"]["labels"] = json!({OPT_OUT_LABEL: "no"});
    assert_eq!(create(&pod).tally, [Tally::Rewritten]);
}

#[rstest]
#[case("DELETE", "")]
#[case("CONNECT", "exec")]
#[case("CREATE", "eviction")]
#[case("CREATE", "binding")]
#[case("UPDATE", "status")]
#[case("UPDATE", "resize")]
#[case("SOMETHING", "")]
fn other_operations_and_subresources_are_passed_whatever_they_carry(#[case] operation: &str, #[case] sub: &str) {
    assert!(Answer::to(&review(operation, sub, &json!({"kind": "Eviction"}), None), built_in).is_none());
}

#[rstest]
#[case(json!({"image": "nginx"}), PullPolicy::Always)]
#[case(json!({"image": "nginx:latest"}), PullPolicy::Always)]
#[case(json!({"image": "nginx:1.27"}), PullPolicy::IfNotPresent)]
#[case(json!({"image": format!("nginx@sha256:{HEX}")}), PullPolicy::IfNotPresent)]
#[case(json!({"image": "nginx:1.27", "imagePullPolicy": "Always"}), PullPolicy::Always)]
#[case(json!({"image": "nginx", "imagePullPolicy": "IfNotPresent"}), PullPolicy::IfNotPresent)]
#[case(json!({"image": "nginx", "imagePullPolicy": "Never"}), PullPolicy::Never)]
fn the_pull_policy_is_the_one_that_will_hold(#[case] mut container: Value, #[case] expected: PullPolicy) {
    container["name"] = json!("web");
    let asked = create(&pod(&json!({"containers": [container]}))).asked;
    assert_eq!(asked.iter().map(|facts| facts.pull_policy).collect::<Vec<_>>(), [expected]);
}

#[test]
fn policies_are_told_about_the_pod() {
    let mut object = web("nginx");
    object["metadata"]["labels"] = json!({"app": "web \u{1f578}"});
    object["metadata"]["annotations"] = json!({"note": "a\nb"});
    object["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "2", "controller": true},
    ]);
    object["spec"]["serviceAccountName"] = json!("runner");
    let body = serde_json::to_vec(&review("CREATE", "", &object, None)).unwrap();
    let request = parse(&body).unwrap();
    let Examined::Inquiry(mut inquiry) = examine(&request, &NodeAddress::default().into()).unwrap() else {
        panic!("passed")
    };
    let PodFacts { namespace, name, labels, annotations, service_account, owner, json } = inquiry.facts("team-a");
    assert_eq!((namespace.as_str(), name.as_deref(), service_account.as_str()), ("team-a", Some("web-1"), "runner"));
    assert_eq!((labels["app"].as_str(), annotations["note"].as_str()), ("web \u{1f578}", "a\nb"));
    let owner = owner.unwrap();
    assert_eq!((&*owner.api_version, &*owner.kind, &*owner.name), ("apps/v1", "ReplicaSet", "web"));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), object);
    let asked = inquiry.take_questions();
    assert_eq!((asked[0].name.as_str(), asked[0].kind), ("web", ContainerKind::Regular));
    assert_eq!(asked[0].image.to_string(), "docker.io/library/nginx:latest");
}

// ---- the pod comes again, or comes with claims

#[test]
fn the_answer_to_the_patched_pod_is_no_patch_and_no_question() {
    let first = create(&web("nginx:1.27"));
    let second = create(&first.pod);
    assert!(second.is_no_patch() && second.asked.is_empty(), "{}", second.patch);
    assert_eq!(second.tally, [Tally::AlreadyRewritten]);
    assert_eq!(annotation(&second.pod)["web"]["original"], json!("nginx:1.27"));
}

#[test]
fn a_forged_entry_is_overwritten_by_what_is_true() {
    let forged = json!({
        "web": {"original": "nginx", "source": "evil.example/miner:1"},
        "ghost": {"original": "x", "source": "evil.example/ghost:1"},
    });
    let answer = create(&with_annotation(web("nginx"), &forged));
    let expected = json!({"web": {"original": "nginx", "source": "docker.io/library/nginx:latest"}});
    assert_eq!(annotation(&answer.pod), expected);
}

#[test]
fn a_copied_spec_on_the_node_address_is_recorded_and_labelled_so_that_its_image_stays_cached() {
    let before = web("localhost:7439/reg.example_5000/app:1");
    let answer = create(&before);
    assert_eq!(answer.asked.len(), 0);
    assert_eq!(answer.pod["spec"], before["spec"]);
    assert_eq!(answer.pod["metadata"]["labels"], json!({REWRITTEN_LABEL: "true"}));
    let entry = json!({"original": "localhost:7439/reg.example_5000/app:1", "source": "reg.example:5000/app:1"});
    assert_eq!(annotation(&answer.pod), json!({"web": entry}));
    assert!(create(&answer.pod).is_no_patch());
}

#[test]
fn an_entry_that_does_not_lead_to_the_node_address_in_the_pod_is_not_believed() {
    let forged = json!({"web": {"original": "nginx", "source": "evil.example/miner:1"}});
    let answer = create(&with_annotation(web("localhost:7439/docker.io/library/nginx:1"), &forged));
    assert_eq!(annotation(&answer.pod)["web"]["source"], json!("docker.io/library/nginx:1"));
}

#[rstest]
#[case::no_host("localhost:7439/nginx:1")]
#[case::twice("localhost:7439/localhost_7439/docker.io/library/nginx:1")]
fn a_node_address_of_another_form_is_left_alone(#[case] image: &str) {
    let claim = json!({"web": {"original": "nginx", "source": "localhost:7439/docker.io/library/nginx:1"}});
    for pod in [web(image), with_annotation(web(image), &claim)] {
        let answer = create(&pod);
        assert_eq!(answer.pod["spec"], pod["spec"]);
        assert_eq!(answer.pod["metadata"].get("labels"), None);
        let reason = annotation(&answer.pod)["web"]["leftAlone"].as_str().unwrap().to_owned();
        assert!(reason.contains("not of the form localhost:7439/<registry host>/"), "{reason}");
    }
}

#[test]
fn a_rewrite_to_elsewhere_is_recognised_by_deciding_on_the_original_again() {
    let first = Answer::to(&review("CREATE", "", &web("nginx:1.27"), None), mirror).unwrap();
    assert_eq!(first.pod["spec"]["containers"][0]["image"], json!("mirror.example/library/nginx:1.27"));
    let second = Answer::to(&review("CREATE", "", &first.pod, None), mirror).unwrap();
    assert!(second.is_no_patch(), "{}", second.patch);
    assert_eq!(second.tally, [Tally::AlreadyRewritten]);

    // The same claim for an image that the policies would not come to is worth nothing.
    let mut forged = first.pod;
    forged["spec"]["containers"][0]["image"] = json!("evil.example/miner:1");
    let answer = Answer::to(&review("CREATE", "", &forged, None), mirror).unwrap();
    let expected = json!({"web": {"original": "evil.example/miner:1", "source": "evil.example/miner:1"}});
    assert_eq!(annotation(&answer.pod), expected);
}

// ---- a pod that is updated

#[test]
fn an_update_is_about_the_images_that_it_changes() {
    let containers =
        |side: &str| pod(&json!({"containers": [{"name": "web", "image": "nginx"}, {"name": "side", "image": side}]}));
    let answer = update(&containers("app:1"), &containers("app:2"));
    assert_eq!(answer.asked.iter().map(|facts| facts.name.as_str()).collect::<Vec<_>>(), ["side"]);
    assert_eq!(answer.pod["spec"]["containers"][0]["image"], json!("nginx"), "a running container is not restarted");
    let entry = json!({"original": "app:2", "source": "docker.io/library/app:2"});
    assert_eq!(annotation(&answer.pod), json!({"side": entry}));
}

#[test]
fn an_update_without_a_new_image_is_no_patch() {
    let never_seen = web("nginx");
    assert!(update(&never_seen, &never_seen).is_no_patch());
    let rewritten = create(&web("nginx")).pod;
    let mut touched = rewritten.clone();
    touched["metadata"]["labels"]["touched"] = json!("yes");
    assert!(update(&rewritten, &touched).is_no_patch());
}

#[test]
fn applying_the_original_image_again_changes_nothing_for_the_running_pod() {
    let running = create(&web("nginx:1.27")).pod;
    let mut applied = running.clone();
    applied["spec"]["containers"][0]["image"] = json!("nginx:1.27");
    assert_eq!(update(&running, &applied).pod, running);
}

#[rstest]
#[case::taken_away(Value::Null)]
#[case::forged(json!({"web": {"original": "nginx", "source": "evil.example/miner:1"}}))]
#[case::forged_as_left_alone(json!({"web": {"original": "nginx", "leftAlone": "because"}}))]
fn an_update_of_the_record_alone_is_undone(#[case] images: Value) {
    let running = create(&web("nginx:1.27")).pod;
    let mut edited = running.clone();
    edited["metadata"]["labels"] = json!({});
    edited["metadata"]["annotations"] =
        if images.is_null() { json!({}) } else { json!({IMAGES_ANNOTATION: images.to_string()}) };
    assert_eq!(update(&running, &edited).pod, running);
}

#[test]
fn a_forged_record_of_a_pod_that_has_none_is_taken_away() {
    let running = web("nginx");
    let mut forged =
        with_annotation(running.clone(), &json!({"web": {"original": "nginx", "source": "evil.example/x:1"}}));
    forged["metadata"]["labels"] = json!({REWRITTEN_LABEL: "true"});
    let answer = update(&running, &forged);
    assert_eq!(annotation(&answer.pod), Value::Null);
    assert_eq!(answer.pod["metadata"]["labels"], json!({}));
}

#[test]
fn a_record_that_was_lost_is_made_again_from_the_node_address() {
    let mut running = create(&web("nginx:1.27")).pod;
    running["metadata"]["annotations"] = json!({});
    running["metadata"]["labels"] = json!({});
    let healed = update(&running, &running).pod;
    assert_eq!(annotation(&healed)["web"]["source"], json!("docker.io/library/nginx:1.27"));
    assert_eq!(healed["metadata"]["labels"], json!({REWRITTEN_LABEL: "true"}));
    assert_eq!(healed["spec"], running["spec"]);
}

#[test]
fn ephemeral_containers_are_images_only() {
    let with = |images: &[&str]| {
        let list: Vec<_> =
            images.iter().enumerate().map(|(n, image)| json!({"name": format!("debug-{n}"), "image": image})).collect();
        // What the API server sends along of the pod itself is not what is being changed.
        pod(&json!({"containers": [{"name": "web", "image": images[0]}], "ephemeralContainers": list}))
    };
    let review = review("UPDATE", "ephemeralcontainers", &with(&["nginx", "busybox:1"]), Some(&with(&["nginx"])));
    let answer = Answer::to(&review, built_in).unwrap();
    let path = "/spec/ephemeralContainers/1/image";
    let expected = json!([
        {"op": "test", "path": path, "value": "busybox:1"},
        {"op": "replace", "path": path, "value": "localhost:7439/docker.io/library/busybox:1"},
    ]);
    assert_eq!(answer.patch, expected);
}

// ---- verdicts that are no help

#[test]
fn a_policy_that_fails_leaves_that_image_and_warns() {
    let pod = pod(&json!({"containers": [{"name": "web", "image": "nginx"}, {"name": "side", "image": "app"}]}));
    let answer = Answer::to(&review("CREATE", "", &pod, None), |container| {
        let failed =
            Verdict { warnings: vec!["policy broken: out of time".to_owned()], ..left_alone("a policy failed") };
        if container.name == "web" { failed } else { built_in(container) }
    });
    let answer = answer.unwrap();
    assert_eq!(answer.warnings, ["container web: policy broken: out of time"]);
    assert_eq!(answer.tally, [Tally::PolicyFailed, Tally::Rewritten]);
    assert_eq!(answer.pod["spec"]["containers"][0]["image"], json!("nginx"));
    assert_eq!(annotation(&answer.pod)["web"]["leftAlone"], json!("a policy failed"));
    assert_eq!(answer.pod["spec"]["containers"][1]["image"], json!("localhost:7439/docker.io/library/app:latest"));
}

#[rstest]
#[case::other_image("localhost:7439/docker.io/library/nginx:2", "nginx:1", "is not what the node address has")]
#[case::not_of_its_form("localhost:7439/nginx:1", "nginx:1", "is not what the node address has")]
#[case::source_on_the_node("mirror.example/nginx:1", "localhost:7439/docker.io/library/nginx:1", "filled from it")]
fn a_rewrite_that_would_lead_nowhere_is_refused(#[case] image: &str, #[case] source: &str, #[case] problem: &str) {
    let answer = Answer::to(&review("CREATE", "", &web("nginx:1"), None), |_| rewritten(image, source)).unwrap();
    assert_eq!(answer.pod["spec"]["containers"][0]["image"], json!("nginx:1"));
    assert_eq!(answer.warnings.len(), 1);
    assert!(answer.warnings[0].starts_with("container web: a-policy: ") && answer.warnings[0].contains(problem));
    assert_eq!(answer.tally, [Tally::PolicyFailed]);
}

#[test]
fn a_name_that_only_the_rewrite_makes_too_long_is_left_alone() {
    let longest = |length: usize| format!("reg.example/{}", "a".repeat(length));
    // `localhost:7439/` is 15 characters; the path may have 255 with the host of the reference.
    let fits = create(&web(&longest(255 - 15 - "reg.example/".len())));
    assert_eq!(fits.tally, [Tally::Rewritten]);
    let too_long = create(&web(&longest(256 - 15 - "reg.example/".len())));
    assert_eq!(too_long.tally, [Tally::LeftAlone]);
    assert!(annotation(&too_long.pod)["web"]["leftAlone"].as_str().unwrap().contains("255"));
}

#[test]
fn a_missing_verdict_leaves_the_image_alone() {
    let answer = Answer::with_verdicts(&review("CREATE", "", &web("nginx"), None), |_| Vec::new()).unwrap();
    assert_eq!(answer.pod["spec"]["containers"][0]["image"], json!("nginx"));
    assert_eq!(annotation(&answer.pod)["web"]["leftAlone"], json!("no policy decided"));
}

#[test]
fn a_pod_whose_annotations_are_full_is_left_alone_rather_than_made_invalid() {
    let with = |length: usize| {
        let mut pod = web("nginx");
        pod["metadata"]["annotations"] = json!({"a": "x".repeat(length)});
        pod
    };
    let full = create(&with(256 * 1024 - 50));
    assert!(full.is_no_patch());
    assert_eq!(full.warnings, ["images left alone: the pod's annotations leave no room for ours"]);
    assert_eq!(full.tally, [Tally::LeftAlone]);
    assert_eq!(create(&with(256 * 1024 - 200)).tally, [Tally::Rewritten]);
}

// ---- what is no review

#[rstest]
#[case::nothing("", "in JSON")]
#[case::cut(r#"{"apiVersion":"admission.k8s.io/v1","#, "in JSON")]
#[case::list("[]", r#"got kind "" of """#)]
#[case::text("\"x\"", "in JSON")]
#[case::empty("{}", r#"got kind "" of """#)]
#[case::other_version(r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#, "v1beta1")]
#[case::other_kind(r#"{"apiVersion":"v1","kind":"Pod"}"#, r#"got kind "Pod" of "v1""#)]
#[case::no_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "with a request")]
#[case::null_request(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#,
    "with a request"
)]
#[case::no_uid(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#, "missing field `uid`")]
fn what_is_no_review_is_told_what_was_expected(#[case] body: &str, #[case] expected: &str) {
    let error = parse(body.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("expected an AdmissionReview") || error.starts_with("expected kind"), "{error}");
    assert!(error.contains(expected), "{error}");
}

#[rstest]
#[case::no_object("CREATE", "/request/object", Value::Null, "expected request.object to be the pod, it is absent")]
#[case::text("CREATE", "/request/object", json!("pod"), "expected request.object to be a Pod: invalid type")]
#[case::no_spec("CREATE", "/request/object", json!({"metadata": {}}), "missing field `spec`")]
#[case::no_metadata("CREATE", "/request/object", json!({"spec": {}}), "missing field `metadata`")]
#[case::containers("CREATE", "/request/object/spec/containers", json!({"web": {}}), "expected a sequence")]
#[case::image("CREATE", "/request/object/spec/containers/0/image", json!(7), "expected a string")]
#[case::label("CREATE", "/request/object/metadata/labels", json!({"a": 1}), "expected a string")]
#[case::other_object("CREATE", "/request/kind/kind", json!("Deployment"), r#"got "Deployment" of "v1" in group """#)]
#[case::before("UPDATE", "/request/oldObject", Value::Null, "expected request.oldObject to be the pod")]
fn what_is_no_pod_is_told_what_was_expected(
    #[case] operation: &str,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let mut object = web("nginx");
    object["metadata"]["labels"] = json!({});
    let mut review = review(operation, "", &object, Some(&web("nginx")));
    *review.pointer_mut(pointer).unwrap() = value;
    let body = serde_json::to_vec(&review).unwrap();
    let result: Result<(), Malformed> =
        parse(&body).and_then(|r| examine(&r, &NodeAddress::default().into()).map(|_| ()));
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

// ---- for every pod

fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(localhost:7439/)?(docker\\.io/|reg\\.example(:5000)?/|reg\\.example_5000/|localhost_7439/)?[a-z]{1,3}(/[a-z]{1,3})?(:[a-z0-9.]{1,4})?",
        1 => "(localhost:7439/docker\\.io/)?[a-z]{1,3}(:1)?@sha256:[0-9a-f]{64}",
        1 => ".{0,12}",
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let pull_policy = prop::option::of(prop::sample::select(vec!["Always", "IfNotPresent", "Never", "Sometimes"]));
    ("[a-c]", image(), pull_policy)
        .prop_map(|(name, image, policy)| json!({"name": name, "image": image, "imagePullPolicy": policy}))
}

fn any_annotation() -> impl Strategy<Value = Option<String>> {
    let entry = (image(), image(), any::<bool>()).prop_map(|(original, other, rewritten)| {
        if rewritten {
            json!({"original": original, "source": other})
        } else {
            json!({"original": original, "leftAlone": other})
        }
    });
    let entries = prop::collection::btree_map("[a-d]", entry, 0..4).prop_map(|entries| json!(entries).to_string());
    prop_oneof![2 => Just(None), 3 => entries.prop_map(Some), 1 => ".{0,20}".prop_map(Some)]
}

fn any_pod() -> impl Strategy<Value = Value> {
    let list = || prop::option::of(prop::collection::vec(container(), 0..3));
    (list(), list(), list(), any_annotation(), any::<bool>()).prop_map(
        |(init, regular, ephemeral, images, labelled)| {
            let mut pod =
                pod(&json!({"initContainers": init, "containers": regular, "ephemeralContainers": ephemeral}));
            if let Some(images) = images {
                pod["metadata"]["annotations"] = json!({IMAGES_ANNOTATION: images, "other": "kept"});
            }
            if labelled {
                pod["metadata"]["labels"] = json!({REWRITTEN_LABEL: "true", "other": "kept"});
            }
            pod
        },
    )
}

fn names_are_unique(pod: &Value) -> bool {
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| &pod["spec"][list]);
    let names: Vec<_> = lists.iter().filter_map(|l| l.as_array()).flatten().map(|c| c["name"].to_string()).collect();
    names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len()
}

fn without_what_is_ours(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    for (map, key) in [("labels", REWRITTEN_LABEL), ("annotations", IMAGES_ANNOTATION)] {
        let metadata = pod["metadata"].as_object_mut().unwrap();
        let emptied = metadata.get_mut(map).and_then(Value::as_object_mut).is_some_and(|map| {
            map.remove(key);
            map.is_empty()
        });
        if emptied {
            metadata.remove(map);
        }
    }
    pod
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_but_images_the_label_and_the_annotation_changes(before in any_pod(), pod in any_pod(), updated: bool) {
        let (operation, before) = if updated { ("UPDATE", Some(&before)) } else { ("CREATE", None) };
        let answer = Answer::to(&review(operation, "", &pod, before), mirror).unwrap();
        prop_assert_eq!(without_what_is_ours(&answer.pod), without_what_is_ours(&pod));
    }

    #[test]
    fn the_label_is_there_exactly_when_the_annotation_has_a_source(pod in any_pod()) {
        let answer = create(&pod);
        let has_source = annotation(&answer.pod).as_object().is_some_and(|a| a.values().any(|e| e.get("source").is_some()));
        prop_assert_eq!(answer.pod["metadata"]["labels"][REWRITTEN_LABEL] == json!("true"), has_source);
    }

    #[test]
    fn the_answer_to_an_answer_is_no_patch(before in any_pod(), pod in any_pod(), updated: bool) {
        // The API server refuses names that are not unique, after us.
        prop_assume!(names_are_unique(&pod));
        let (operation, before) = if updated { ("UPDATE", Some(&before)) } else { ("CREATE", None) };
        for policy in [built_in, mirror] {
            let first = Answer::to(&review(operation, "", &pod, before), policy).unwrap();
            let second = Answer::to(&review(operation, "", &first.pod, before), policy).unwrap();
            prop_assert!(second.is_no_patch(), "{} after {}", second.patch, first.patch);
        }
    }
}
