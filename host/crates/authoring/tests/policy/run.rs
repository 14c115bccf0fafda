use cache_registry_guests::{Answer, filter, filter_answering, rewriter_answering};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{Desk, Ended, settable_filter};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: team-a
spec:
  initContainers:
  - name: setup
    image: busybox
    imagePullPolicy: Never
  containers:
  - name: web
    image: nginx:1.27
";

fn desk(pods: &str) -> Desk {
    let desk = Desk::with_policy(filter_answering(&Answer::Ignore("not in this team")));
    desk.write("pods.yaml", pods);
    desk
}

/// What is reported for programs.
async fn report(desk: &Desk, line: &str) -> Value {
    let out = desk.policy(&format!("run {line} --output json")).await.well();
    serde_json::from_str(&out).unwrap()
}

/// Of each pod its namespace, its name and what its containers pull.
async fn pulled(desk: &Desk, line: &str) -> Vec<(String, Value, Vec<String>)> {
    let report = report(desk, line).await;
    let pods = report["pods"].as_array().unwrap().iter().map(|pod| {
        let containers = pod["containers"].as_array().unwrap().iter();
        let images = containers.map(|container| container["image"].as_str().unwrap().to_owned()).collect();
        (pod["namespace"].as_str().unwrap().to_owned(), pod["name"].clone(), images)
    });
    pods.collect()
}

#[tokio::test]
async fn without_a_policy_the_built_in_ones_decide() {
    insta::assert_snapshot!(desk(POD).policy("run -f @pods.yaml").await.well(), @r#"
    Pod web in namespace team-a
      container setup (init): left alone
        image   busybox
        policy  default-filter
        why     imagePullPolicy is Never
      container web: rewritten
        image   nginx:1.27
        becomes localhost:7439/docker.io/library/nginx:1.27
        source  docker.io/library/nginx:1.27
        policy  default-rewrite
        why     it is to be cached, says default-filter
      patch
        test    /spec/containers/0/image "nginx:1.27"
        replace /spec/containers/0/image "localhost:7439/docker.io/library/nginx:1.27"
        add     /metadata/labels {"cache-registry.enix.io/images-rewritten":"true"}
        add     /metadata/annotations {"cache-registry.enix.io/images":"{\"setup\":{\"original\":\"busybox\",\"leftAlone\":\"imagePullPolicy is Never\"},\"web\":{\"original\":\"nginx:1.27\",\"source\":\"docker.io/library/nginx:1.27\"}}"}
    "#);
}

#[tokio::test]
async fn a_policy_comes_before_the_built_in_ones() {
    insta::assert_snapshot!(desk(POD).policy("run @mine.wasm -f @pods.yaml").await.well(), @r#"
    Pod web in namespace team-a
      container setup (init): left alone
        image   busybox
        policy  mine
        why     not in this team
      container web: left alone
        image   nginx:1.27
        policy  mine
        why     not in this team
      patch
        add     /metadata/annotations {"cache-registry.enix.io/images":"{\"setup\":{\"original\":\"busybox\",\"leftAlone\":\"not in this team\"},\"web\":{\"original\":\"nginx:1.27\",\"leftAlone\":\"not in this team\"}}"}
    "#);
}

#[tokio::test]
async fn programs_get_json() {
    let report = report(&desk(POD), "@mine.wasm -f @pods.yaml").await;
    let left_alone = |name: &str, kind: &str, original: &str| {
        json!({
            "name": name, "kind": kind, "original": original, "decision": "left-alone", "image": original,
            "source": null, "policy": "mine", "reason": "not in this team",
        })
    };
    assert_eq!(
        report["pods"][0]["containers"],
        json!([left_alone("setup", "init", "busybox"), left_alone("web", "regular", "nginx:1.27")])
    );
    let built_in = self::report(&desk(POD), "-f @pods.yaml").await;
    let rewritten = json!({
        "name": "web", "kind": "regular", "original": "nginx:1.27", "decision": "rewritten",
        "image": "localhost:7439/docker.io/library/nginx:1.27", "source": "docker.io/library/nginx:1.27",
        "policy": "default-rewrite", "reason": "it is to be cached, says default-filter",
    });
    assert_eq!(built_in["pods"][0]["containers"][1], rewritten);
    assert_eq!((&built_in["pods"][0]["namespace"], &built_in["pods"][0]["name"]), (&json!("team-a"), &json!("web")));
    assert_eq!(built_in["pods"][0]["warnings"], json!([]));
    let keys: Vec<_> = built_in["pods"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["containers", "name", "namespace", "patch", "warnings"]);
}

#[tokio::test]
async fn the_patch_of_each_pod_is_a_line() {
    let desk = desk(&format!("{POD}---\n{POD}"));
    let out = desk.policy("run -f @pods.yaml -o patch").await.well();
    let patches: Vec<json_patch::Patch> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(patches.len(), 2);
    let mut pod = json!({
        "metadata": {"name": "web"},
        "spec": {
            "initContainers": [{"name": "setup", "image": "busybox"}],
            "containers": [{"name": "web", "image": "nginx:1.27"}],
        },
    });
    json_patch::patch(&mut pod, &patches[0]).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], json!("localhost:7439/docker.io/library/nginx:1.27"));
}

#[rstest]
#[case::deployment("apps/v1", "Deployment", "spec: {template: TEMPLATE}")]
#[case::stateful_set("apps/v1", "StatefulSet", "spec: {template: TEMPLATE}")]
#[case::daemon_set("apps/v1", "DaemonSet", "spec: {template: TEMPLATE}")]
#[case::replica_set("apps/v1", "ReplicaSet", "spec: {template: TEMPLATE}")]
#[case::replication_controller("v1", "ReplicationController", "spec: {template: TEMPLATE}")]
#[case::job("batch/v1", "Job", "spec: {template: TEMPLATE}")]
#[case::cron_job("batch/v1", "CronJob", "spec: {jobTemplate: {spec: {template: TEMPLATE}}}")]
#[case::pod_template("v1", "PodTemplate", "template: TEMPLATE")]
#[tokio::test]
async fn the_pods_of_a_template_are_decided_on(#[case] api_version: &str, #[case] kind: &str, #[case] body: &str) {
    let template = "{metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: nginx}]}}";
    let body = body.replace("TEMPLATE", template);
    let desk =
        desk(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: web, namespace: shop}}\n{body}\n"));
    let image = "localhost:7439/docker.io/library/nginx:latest".to_owned();
    assert_eq!(pulled(&desk, "-f @pods.yaml").await, [("shop".to_owned(), json!("web"), vec![image])]);
}

#[tokio::test]
async fn a_template_without_metadata_is_enough() {
    let desk = desk("apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {containers: [{name: a, image: b}]}}}\n");
    let image = "localhost:7439/docker.io/library/b:latest".to_owned();
    assert_eq!(pulled(&desk, "-f @pods.yaml -n mine").await, [("mine".to_owned(), json!(null), vec![image])]);
}

#[tokio::test]
async fn lists_documents_and_files_are_taken_one_after_the_other() {
    let pod =
        |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: []}}}}");
    let desk =
        desk(&format!("{}\n---\napiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n", pod("a"), pod("b"), pod("c")));
    let json = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "d"}, "spec": {"containers": []}});
    desk.write("more.json", format!("{json}\n{json}"));
    let names: Vec<_> = pulled(&desk, "-f @pods.yaml -f @more.json").await.into_iter().map(|pod| pod.1).collect();
    assert_eq!(names, ["a", "b", "c", "d", "d"]);
}

#[tokio::test]
async fn a_review_is_answered_as_it_is() {
    let desk = desk("");
    let pod = |image: &str| json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "image": image}]}});
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "UPDATE",
            "namespace": "shop", "object": pod("nginx"), "oldObject": pod("nginx"),
        },
    });
    desk.write("review.json", review.to_string());
    let report = report(&desk, "-f @review.json").await;
    assert_eq!(report["pods"][0]["namespace"], json!("shop"));
    assert_eq!(report["pods"][0]["containers"][0]["reason"], json!("it is not changed by this update"));
    assert_eq!(report["pods"][0]["patch"], json!([]));
}

#[tokio::test]
async fn what_has_no_pods_is_passed_over_and_said() {
    let desk = desk(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n---\n{POD}"));
    let Ended { status, said, out } = desk.policy("run -f @pods.yaml -o patch").await;
    assert_eq!((status, out.lines().count()), (0, 1));
    assert_eq!(said, "pods.yaml: line 1, column 1: Service web has no pods, and is passed over\n");
}

#[rstest]
#[case::no_yaml("a: [\n", "pods.yaml: line ")]
#[case::no_json("{\"a\": \n\n}", "pods.yaml: line 3, column 1: expected value")]
#[case::no_object("- a\n", "pods.yaml: line 1, column 1: expected an object of Kubernetes")]
#[case::no_kind("apiVersion: v1\n", "it has no kind")]
#[case::no_version("kind: Pod\n", "Pod has no apiVersion")]
#[case::no_pod("apiVersion: v1\nkind: Service\n", "there is no pod in what -f names")]
#[case::nothing("", "there is no pod in what -f names")]
#[case::no_template(
    "apiVersion: batch/v1\nkind: CronJob\nspec: {}\n",
    "expected spec.jobTemplate.spec.template in CronJob"
)]
#[case::no_items(
    "apiVersion: v1\nkind: List\nitems: {}\n",
    "line 3, column 8: expected the items of a List to be a list"
)]
#[case::no_image(
    "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: a\n    image: 1.27\n",
    "pods.yaml: line 7, column 12: Pod x: invalid type: floating point `1.27`, expected a string"
)]
#[case::no_list(
    "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n    a: b\n",
    "pods.yaml: line 6, column 5: Pod x: invalid type: map, expected a sequence"
)]
#[case::no_spec(
    "a: b\n---\napiVersion: v1\nkind: Pod\nmetadata: {}\n",
    "line 1, column 1 (document 1): expected an object"
)]
#[case::later_document(
    "# first\n---\napiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {}\n---\napiVersion: v1\nkind: Pod\nspec: {}\n",
    "line 8, column 1 (document 2): Pod: missing field `metadata`"
)]
#[case::of_a_template(
    "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nspec:\n  template:\n    spec:\n      containers:\n      - name: {}\n",
    "line 8, column 15: Job x: invalid type: map, expected a string"
)]
#[case::no_review(
    "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n",
    "line 1, column 1: AdmissionReview: expected an AdmissionReview with a request"
)]
#[case::no_pod_before(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1",
"kind":{"group":"","version":"v1","kind":"Pod"},"operation":"UPDATE","object":{"metadata":{},"spec":{}},
"oldObject":{"metadata":{},
"spec":7}}}"#,
    "line 4, column 8: AdmissionReview: invalid type: integer `7`"
)]
#[tokio::test]
async fn bad_input_is_told_with_its_line(#[case] pods: &str, #[case] expected: &str) {
    let Ended { status, out, said } = desk(pods).policy("run -f @pods.yaml").await;
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}

#[rstest]
#[case::no_input("run", "--filename <FILE>")]
#[case::no_file("run -f @nowhere.yaml", "cannot read nowhere.yaml")]
#[case::no_policy("run @nowhere.wasm -f @pods.yaml", "cannot read nowhere.wasm")]
#[case::bad_policy("run @pods.yaml -f @pods.yaml", "pods.yaml: this is not WebAssembly")]
#[case::lone_settings(
    "run -f @pods.yaml --settings @pods.yaml",
    "--settings is given 1 times, and there are 0 policies"
)]
#[case::unknown_output("run -f @pods.yaml -o yaml", "possible values: text, json, patch")]
#[tokio::test]
async fn a_bad_command_line_is_bad_input(#[case] line: &str, #[case] expected: &str) {
    let said = desk(POD).policy(line).await.with(2);
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}

#[tokio::test]
async fn policies_are_asked_in_the_order_given() {
    let desk = desk(POD);
    desk.write("cache.wasm", filter_answering(&Answer::Cache));
    let mirrored = Answer::Rewritten { image: "mirror.example/nginx", source: "nginx" };
    desk.write("mirror.v2.wasm", rewriter_answering(&mirrored));
    let first =
        async |line: &str| report(&desk, &format!("{line} -f @pods.yaml")).await["pods"][0]["containers"][1].clone();
    let container = first("@cache.wasm @mine.wasm @mirror.v2.wasm").await;
    assert_eq!(
        (&container["policy"], &container["reason"]),
        (&json!("mirror"), &json!("it is to be cached, says cache"))
    );
    assert_eq!(container["image"], json!("mirror.example/nginx:latest"));
    assert_eq!(first("@mine.wasm @cache.wasm").await["policy"], json!("mine"));
    assert_eq!(first("@cache.wasm @cache.wasm").await["reason"], json!("it is to be cached, says cache"));
}

#[tokio::test]
async fn settings_go_to_the_policies_in_their_order() {
    let desk = desk(POD);
    desk.write("set.wasm", settable_filter());
    desk.write("pass.wasm", filter_answering(&Answer::Pass));
    desk.write("empty.yaml", "");
    desk.write("settings.yaml", "a: b\n");
    let report =
        report(&desk, "@pass.wasm @set.wasm -f @pods.yaml --settings @empty.yaml --settings @settings.yaml").await;
    assert_eq!(report["pods"][0]["containers"][1]["policy"], json!("set"));
    let said = desk.policy("run @pass.wasm -f @pods.yaml --settings @pods.yaml --settings @pods.yaml").await.with(2);
    assert!(said.contains("--settings is given 2 times"), "{said}");
}

#[tokio::test]
async fn the_settings_of_the_host_are_those_of_policies() {
    let report = report(&desk(POD), "-f @pods.yaml --node-address cache.local:5000 --registry-host docker.io").await;
    let reason = report["pods"][0]["containers"][1]["reason"].as_str().unwrap();
    assert_eq!(reason, "docker.io is the cache's own registry");
    let report = self::report(&desk(POD), "-f @pods.yaml --node-address cache.local:5000").await;
    assert_eq!(report["pods"][0]["containers"][1]["image"], json!("cache.local:5000/docker.io/library/nginx:1.27"));
}

#[tokio::test]
async fn a_policy_that_fails_leaves_the_image_and_warns() {
    let desk = desk(POD);
    desk.write("mine.wasm", filter("unreachable"));
    insta::assert_snapshot!(desk.policy("run @mine.wasm -f @pods.yaml").await.well(), @r#"
    Pod web in namespace team-a
      container setup (init): left alone
        image   busybox
        policy  mine
        why     policy mine panicked
      container web: left alone
        image   nginx:1.27
        policy  mine
        why     policy mine panicked
      warning: cache-registry: container setup: policy mine panicked
      warning: cache-registry: container web: policy mine panicked
      patch
        add     /metadata/annotations {"cache-registry.enix.io/images":"{\"setup\":{\"original\":\"busybox\",\"leftAlone\":\"policy mine panicked\"},\"web\":{\"original\":\"nginx:1.27\",\"leftAlone\":\"policy mine panicked\"}}"}
    "#);
}

#[tokio::test]
async fn an_opted_out_pod_is_said_to_be_left_alone() {
    let desk = desk(
        &POD.replace("  name: web\n", "  name: web\n  labels: {cache-registry.enix.io/image-caching-policy: ignore}\n"),
    );
    insta::assert_snapshot!(desk.policy("run @mine.wasm -f @pods.yaml").await.well(), @r#"
    Pod web in namespace team-a
      container setup (init): left alone
        image   busybox
        policy  -
        why     the pod is labelled cache-registry.enix.io/image-caching-policy: ignore
      container web: left alone
        image   nginx:1.27
        policy  -
        why     the pod is labelled cache-registry.enix.io/image-caching-policy: ignore
      no patch
    "#);
}

/// A pod of an image that nodes of EKS pull with credentials of their own.
const OF_ECR: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: web
    image: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1.27
";

/// Who decides, and what the node pulls.
async fn decided(desk: &Desk, line: &str) -> (String, String) {
    let report = report(desk, line).await;
    let container = &report["pods"][0]["containers"][0];
    let text = |key: &str| container[key].as_str().unwrap().to_owned();
    (text("policy"), text("image"))
}

#[tokio::test]
async fn what_nodes_pull_by_themselves_is_left_alone_unless_somebody_says_otherwise() {
    let image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1.27";
    let (left_alone, rewritten) = (image.to_owned(), format!("localhost:7439/{image}"));
    let desk = Desk::with_policy(filter_answering(&Answer::Cache));
    desk.write("pods.yaml", OF_ECR);
    let by_filter = ("default-filter".to_owned(), left_alone.clone());
    let by_rewrite = ("default-rewrite".to_owned(), rewritten);
    assert_eq!(decided(&desk, "-f @pods.yaml").await, by_filter);
    assert_eq!(decided(&desk, "-f @pods.yaml --node-registries=*.dkr.ecr.*.amazonaws.com").await, by_filter);
    assert_eq!(decided(&desk, "-f @pods.yaml --node-registries=*.azurecr.io,gcr.io").await, by_rewrite);
    assert_eq!(decided(&desk, "-f @pods.yaml --node-registries=").await, by_rewrite);
    assert_eq!(decided(&desk, "@mine.wasm -f @pods.yaml").await, by_rewrite);
}

#[tokio::test]
async fn a_registry_that_is_none_is_refused_in_words() {
    let desk = desk(POD);
    let error = desk.policy("run -f @pods.yaml --node-registries=https://gcr.io").await.with(2);
    assert!(error.contains("\"https://gcr.io\" is not a registry as a kubelet's matchImages"), "{error}");
}
