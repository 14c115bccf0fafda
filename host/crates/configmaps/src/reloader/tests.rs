use super::*;
use crate::events::{Announcer, News, Notice};
use crate::mock_registry::MockRegistry;
use crate::tests::engine;
use base64::Engine as _;
use cache_registry_policy::Policies;
use cache_registry_policy::built_in::{DEFAULT_FILTER, ReleaseSettings};
use cache_registry_runtime::Readiness;
use http_body_util::BodyExt as _;
use kube::core::error_boundary::InvalidObject;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt as _;

type Brought = watcher::Result<Event<DeserializeGuard<ConfigMap>>>;

/// A reloader at work on what a test brings.
struct Bench {
    brought: mpsc::Sender<Brought>,
    policies: Policies,
    status: crate::Status,
    notices: mpsc::Receiver<Notice>,
    readiness: Readiness,
    metrics: Registry,
    failures: mpsc::Sender<PolicyFailure>,
}

impl Bench {
    fn start(registry: MockRegistry) -> Self {
        let mut metrics = Registry::default();
        let set = ReloadableSet::built_in(engine(), ReleaseSettings::default(), &mut metrics).unwrap();
        let (policies, status, readiness) = (set.policies(), set.status(), Readiness::new());
        let (announcer, notices) = Announcer::unwritten();
        let announcements = Announcements::new(announcer, "cache", Some("webhook-0".to_owned()));
        let ready = readiness.hold("policies");
        let (reloader, reports) = Reloader::new(set, registry, Duration::from_mins(5), announcements, ready);
        let (brought, mut bringing) = mpsc::channel::<Brought>(16);
        let stream = futures::stream::poll_fn(move |context| bringing.poll_recv(context));
        let (failing, failures) = mpsc::channel(16);
        tokio::spawn(reloader.run(stream, reports, failures));
        Self { brought, policies, status, notices, readiness, metrics, failures: failing }
    }

    async fn bring(&self, event: Event<DeserializeGuard<ConfigMap>>) {
        self.brought.send(Ok(event)).await.unwrap();
    }

    /// Brings a whole listing.
    async fn list(&self, configmaps: &[ConfigMap]) {
        self.bring(Event::Init).await;
        for configmap in configmaps {
            self.bring(Event::InitApply(DeserializeGuard(Ok(configmap.clone())))).await;
        }
        self.bring(Event::InitDone).await;
    }

    async fn apply(&self, configmap: &ConfigMap) {
        self.bring(Event::Apply(DeserializeGuard(Ok(configmap.clone())))).await;
    }

    fn set(&self) -> Vec<String> {
        self.policies.current().members().map(|member| member.policy.name().to_owned()).collect()
    }

    /// Waits for a set, for a minute of a paused clock: until nothing happens any more.
    async fn becomes(&self, set: &[&str]) {
        let until = Instant::now() + Duration::from_mins(1);
        while self.set() != set {
            assert!(Instant::now() < until, "{:?} instead of {set:?}", self.set());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The next notice: which, and about what.
    async fn told(&mut self) -> (News, String, String) {
        let told = tokio::time::timeout(Duration::from_mins(1), self.notices.recv()).await;
        let notice = told.expect("a notice").unwrap();
        (notice.news, notice.regarding.name.unwrap(), notice.note)
    }

    async fn told_nothing(&mut self) {
        let told = tokio::time::timeout(Duration::from_mins(1), self.notices.recv()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn configmap(name: &str, version: &str, data: &Value) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": name, "resourceVersion": version },
        "data": data,
    }))
    .unwrap()
}

/// The built-in filter under another name.
fn filter(name: &str, version: &str, priority: i32) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": name, "resourceVersion": version },
        "data": { "priority": priority.to_string() },
        "binaryData": { "policy.wasm": base64::engine::general_purpose::STANDARD.encode(DEFAULT_FILTER) },
    }))
    .unwrap()
}

fn broken(name: &str, version: &str) -> ConfigMap {
    configmap(name, version, &json!({ "policy.wasm": "no wasm" }))
}

const BUILT_IN: [&str; 2] = ["default-filter", "default-rewrite"];

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_all_that_there_is_has_been_worked_off() {
    let mut bench = Bench::start(MockRegistry::away());
    bench.bring(Event::Init).await;
    bench.bring(Event::InitApply(DeserializeGuard(Ok(filter("a", "1", 0))))).await;
    bench.bring(Event::InitApply(DeserializeGuard(Ok(broken("b", "2"))))).await;
    bench.told_of_refusal("b").await;
    // Half of the policies would be another set than was asked for.
    assert_eq!((bench.set().len(), bench.readiness.waiting_for().len()), (2, 1));
    bench.bring(Event::InitDone).await;
    bench.becomes(&["a", "default-filter", "default-rewrite"]).await;
    assert!(bench.readiness.waiting_for().is_empty());
}

impl Bench {
    async fn told_of_refusal(&mut self, of: &str) {
        let (news, about, _) = self.told().await;
        assert_eq!((news, about.as_str()), (News::Refused, of));
    }
}

#[tokio::test(start_paused = true)]
async fn without_configmaps_it_is_ready_with_the_built_in_policies() {
    let bench = Bench::start(MockRegistry::away());
    bench.list(&[]).await;
    while !bench.readiness.waiting_for().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.set(), BUILT_IN);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_refused_does_not_hold_up_the_start() {
    let bench = Bench::start(MockRegistry::away());
    let began = Instant::now();
    let image = configmap("late", "1", &json!({ "image": "reg.example/policy:1" }));
    bench.list(&[filter("a", "1", 0), image]).await;
    bench.becomes(&["a", "default-filter", "default-rewrite"]).await;
    assert!(began.elapsed() < LONGEST_BEGINNING, "it waits for a registry that has answered");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_come_is_not_waited_for_longer() {
    let bench = Bench::start(MockRegistry::hanging());
    let began = Instant::now();
    let image = configmap("late", "1", &json!({ "image": "reg.example/policy:1" }));
    bench.list(&[filter("a", "1", 0), image]).await;
    bench.becomes(&["a", "default-filter", "default-rewrite"]).await;
    assert!(bench.readiness.waiting_for().is_empty());
    let took = began.elapsed();
    assert!(took >= LONGEST_BEGINNING && took < LONGEST_BEGINNING * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_in_force_and_told_once() {
    let mut bench = Bench::start(MockRegistry::away());
    bench.list(&[]).await;
    bench.apply(&filter("a", "1", 0)).await;
    bench.becomes(&["a", "default-filter", "default-rewrite"]).await;
    let (news, about, note) = bench.told().await;
    assert_eq!((news, about.as_str()), (News::Loaded, "a"));
    assert!(note.contains("in force") && note.contains("sha256:"), "{note}");
    bench.apply(&filter("a", "2", 2_000_000)).await;
    let (news, _, note) = bench.told().await;
    assert_eq!(news, News::Refused);
    assert!(note.contains("-1000000 to 1000000") && note.ends_with("stays in force."), "{note}");
    assert_eq!(bench.set(), ["a", "default-filter", "default-rewrite"]);
    // A change of nothing that a policy is made of.
    bench.apply(&filter("a", "3", 2_000_000)).await;
    bench.told_nothing().await;
    // What was wrong with the version before is not told again of the next one.
    bench.apply(&filter("a", "4", 1)).await;
    assert_eq!(bench.told().await.0, News::Loaded);
    bench.bring(Event::Delete(DeserializeGuard(Ok(filter("a", "5", 0))))).await;
    bench.becomes(&BUILT_IN).await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_takes_out_what_is_not_in_it_and_loads_nothing_twice() {
    let bench = Bench::start(MockRegistry::away());
    let (a, b) = (filter("a", "1", 0), filter("b", "1", 0));
    bench.list(&[a.clone(), b]).await;
    bench.becomes(&["a", "b", "default-filter", "default-rewrite"]).await;
    let of_a = Arc::clone(&bench.policies.current().members().next().unwrap().policy);
    // The API server was away, and the watch begins anew: the set stays meanwhile.
    bench.brought.send(Err(watcher::Error::NoResourceVersion)).await.unwrap();
    bench.bring(Event::Init).await;
    bench.bring(Event::InitApply(DeserializeGuard(Ok(a)))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.set().len(), 4);
    bench.bring(Event::InitDone).await;
    bench.becomes(&["a", "default-filter", "default-rewrite"]).await;
    assert!(Arc::ptr_eq(&of_a, &bench.policies.current().members().next().unwrap().policy));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_changes_nothing() {
    let mut bench = Bench::start(MockRegistry::away());
    bench.list(&[filter("a", "1", 0)]).await;
    bench.becomes(&["a", "default-filter", "default-rewrite"]).await;
    assert_eq!(bench.told().await.0, News::Loaded);
    let metadata = filter("a", "2", 0).metadata;
    let invalid = InvalidObject { error: "data is a number".to_owned(), metadata };
    bench.bring(Event::Apply(DeserializeGuard(Err(invalid)))).await;
    let (news, about, note) = bench.told().await;
    assert_eq!((news, about.as_str()), (News::Refused, "a"));
    assert!(note.contains("data is a number"), "{note}");
    assert_eq!(bench.set(), ["a", "default-filter", "default-rewrite"]);
    bench.apply(&filter("b", "1", 0)).await;
    bench.becomes(&["a", "b", "default-filter", "default-rewrite"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_many_versions_the_newest_is_in_force() {
    let bench = Bench::start(MockRegistry::away());
    bench.list(&[]).await;
    for version in 1..=40 {
        let name = if version % 2 == 0 { BUILT_IN[0] } else { BUILT_IN[1] };
        let data = json!({ "builtIn": name, "priority": version.to_string() });
        bench.apply(&configmap("a", &version.to_string(), &data)).await;
    }
    bench.apply(&configmap("a", "41", &json!({ "builtIn": BUILT_IN[0], "enabled": "false" }))).await;
    bench.becomes(&[BUILT_IN[1]]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.set(), [BUILT_IN[1]]);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_what_is_in_force_and_what_is_not() {
    let mut bench = Bench::start(MockRegistry::with("sha256:d1", DEFAULT_FILTER));
    let image = configmap("from-image", "1", &json!({ "image": "reg.example/policy:1", "onError": "pass" }));
    let off = configmap("without", "1", &json!({ "builtIn": BUILT_IN[1], "enabled": "false" }));
    bench.list(&[image, off, broken("wrong", "1"), filter("a", "1", -3)]).await;
    bench.becomes(&["a", "from-image", "default-filter"]).await;
    bench.apply(&broken("a", "2")).await;
    while bench.told().await.0 != News::Refused || bench.status.counts()[2].1 < 2 {}

    let request = http::Request::get("/policies").body(axum::body::Body::empty()).unwrap();
    let response = bench.status.router().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let mut shown: Value = serde_json::from_slice(&body).unwrap();
    for row in shown.as_array_mut().unwrap() {
        for place in ["/loadedAt", "/lastError/at", "/lastError/message", "/digest"] {
            row.pointer_mut(place).into_iter().for_each(|value| *value = json!("…"));
        }
    }
    insta::assert_json_snapshot!(shown, @r#"
    [
      {
        "digest": "…",
        "failing": false,
        "failuresInARow": 0,
        "filters": true,
        "lastError": {
          "at": "…",
          "message": "…",
          "reason": "not-wasm"
        },
        "loadedAt": "…",
        "name": "a",
        "onError": "leave",
        "origin": "configmap/a",
        "priority": -3,
        "rewrites": false,
        "state": "in-force"
      },
      {
        "digest": "…",
        "failing": false,
        "failuresInARow": 0,
        "filters": true,
        "image": {
          "digest": "sha256:d1",
          "reference": "reg.example/policy:1"
        },
        "loadedAt": "…",
        "name": "from-image",
        "onError": "pass",
        "origin": "configmap/from-image",
        "priority": 0,
        "rewrites": false,
        "state": "in-force"
      },
      {
        "digest": "…",
        "failing": false,
        "failuresInARow": 0,
        "filters": true,
        "loadedAt": "…",
        "name": "default-filter",
        "onError": "leave",
        "origin": "built-in",
        "priority": 1000000,
        "rewrites": false,
        "state": "in-force"
      },
      {
        "name": "default-rewrite",
        "origin": "configmap/without",
        "state": "off"
      },
      {
        "lastError": {
          "at": "…",
          "message": "…",
          "reason": "not-wasm"
        },
        "name": "wrong",
        "origin": "configmap/wrong",
        "state": "refused"
      }
    ]
    "#);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &bench.metrics).unwrap();
    for line in [
        "cache_registry_policies{state=\"in-force\"} 3",
        "cache_registry_policies{state=\"refused\"} 2",
        "cache_registry_policies{state=\"failing\"} 0",
        "cache_registry_policy_reloads_total{outcome=\"not-wasm\"} 2",
        "cache_registry_policy_reloads_total{outcome=\"loaded\"} 2",
        "cache_registry_policy_reloads_total{outcome=\"off\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_about_the_configmap_or_the_pod_of_the_webhook() {
    let mut bench = Bench::start(MockRegistry::away());
    bench.list(&[filter("a", "1", 0)]).await;
    assert_eq!(bench.told().await.0, News::Loaded);
    let failure = |policy: &str| PolicyFailure {
        policy: policy.to_owned(),
        cause: "trap",
        words: format!("policy {policy} panicked"),
        namespace: "shop".to_owned(),
        at: std::time::SystemTime::now(),
    };
    for (policy, kind, name) in [("a", "ConfigMap", "a"), ("default-filter", "Pod", "webhook-0")] {
        bench.failures.send(failure(policy)).await.unwrap();
        let notice = bench.notices.recv().await.unwrap();
        assert_eq!(notice.news, News::Failed);
        let (regarding, note) = (notice.regarding, notice.note);
        assert_eq!((regarding.kind.as_deref(), regarding.name.as_deref()), (Some(kind), Some(name)));
        assert!(note.starts_with(&format!("policy {policy} panicked.")) && note.contains("namespace shop"), "{note}");
    }
    // Nobody is to blame for one that has left the set.
    bench.failures.send(failure("gone")).await.unwrap();
    bench.told_nothing().await;
}
