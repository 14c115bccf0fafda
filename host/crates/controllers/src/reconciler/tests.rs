mod access;
mod expiry;
mod inventory;
mod platforms;
mod untagged;
mod updates;

use std::sync::Mutex;

use super::*;
use crate::mock_api::{Asked, MockApi};
use crate::pull_secrets::PullSecret;
use cache_registry_core::{Hasher, PlatformChoice, Platforms, object_name};
use cache_registry_runtime::Readiness;
use futures::stream;
use http::Method;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

const IMAGES: &str = "/apis/cache-registry.enix.io/v1alpha1/cachedimages";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// What is listed for a look at what is in use, in this order.
const SURVEYED: [&str; 7] = [
    "/api/v1/pods",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/batch/v1/jobs",
    "/apis/batch/v1/cronjobs",
];

/// How many bytes the registry may hold: more than all images of a test that does not say so.
const MAX_SIZE: u64 = 1_000;

type Watch<K> = mpsc::UnboundedSender<Event<DeserializeGuard<K>>>;

/// The reconciler, and everything around it in the hands of a test.
struct World {
    api: MockApi,
    pods: Watch<Pod>,
    workloads: mpsc::UnboundedSender<(Kind, Event<DeserializeGuard<Workload>>)>,
    images: Watch<CachedImage>,
    registry: Arc<Mutex<Holdings>>,
    wanted: watch::Sender<Option<Platforms>>,
    asks: mpsc::UnboundedReceiver<Ask<String>>,
    removals: mpsc::UnboundedReceiver<Ask<()>>,
    copies: mpsc::UnboundedReceiver<Ask<Copied>>,
    finds: mpsc::UnboundedReceiver<Ask<Found>>,
    metrics: Registry,
    readiness: Readiness,
    _running: Running,
}

struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A registry call that waits for its answer.
struct Ask<T> {
    source: String,
    /// In whose name it is to be made, `namespace/name`.
    secrets: Vec<String>,
    answer: oneshot::Sender<Result<T, Failure>>,
}

impl<T> Ask<T> {
    fn answer(self, outcome: Result<T, Failure>) {
        assert!(self.answer.send(outcome).is_ok(), "nobody waits for {}", self.source);
    }
}

struct Scripted {
    registry: Arc<Mutex<Holdings>>,
    asks: mpsc::UnboundedSender<Ask<String>>,
    removals: mpsc::UnboundedSender<Ask<()>>,
    copies: mpsc::UnboundedSender<Ask<Copied>>,
    finds: mpsc::UnboundedSender<Ask<Found>>,
}

fn names(secrets: &[PullSecret]) -> Vec<String> {
    secrets.iter().map(ToString::to_string).collect()
}

impl Copier for Scripted {
    async fn copy(&self, source: &Reference, secrets: &[PullSecret]) -> Result<Copied, Failure> {
        let (answer, outcome) = oneshot::channel();
        self.copies.send(Ask { source: source.to_string(), secrets: names(secrets), answer }).unwrap();
        outcome.await.unwrap()
    }

    async fn find(&self, source: &Reference) -> Result<Found, Failure> {
        let (answer, outcome) = oneshot::channel();
        self.finds.send(Ask { source: source.to_string(), secrets: Vec::new(), answer }).unwrap();
        outcome.await.unwrap()
    }

    async fn remove(&self, source: &Reference) -> Result<(), Failure> {
        let (answer, outcome) = oneshot::channel();
        self.removals.send(Ask { source: source.to_string(), secrets: Vec::new(), answer }).unwrap();
        outcome.await.unwrap()
    }

    async fn ask(&self, source: &Reference, secrets: &[PullSecret]) -> Result<String, Failure> {
        let (answer, outcome) = oneshot::channel();
        self.asks.send(Ask { source: source.to_string(), secrets: names(secrets), answer }).unwrap();
        outcome.await.unwrap()
    }

    async fn has(&self, _source: &Reference, digest: Option<&str>) -> Result<bool, Failure> {
        Ok(self.registry.lock().unwrap().sample.as_ref().is_none_or(|found| found.is(digest)))
    }

    async fn inventory(&self) -> Result<Vec<Reference>, Failure> {
        Ok(self.registry.lock().unwrap().images.clone())
    }

    async fn remove_untagged(&self) -> Result<Option<Duration>, Failure> {
        let mut registry = self.registry.lock().unwrap();
        registry.untagged_removed.push(Instant::now());
        registry.untagged.pop().unwrap_or(Ok(None))
    }
}

/// What the registry says without being waited for.
#[derive(Default)]
struct Holdings {
    images: Vec<Reference>,
    /// What it has of an image that it is asked about as a sample; where there is nothing here, what it should have.
    sample: Option<Found>,
    /// What there is to say about manifests without a tag, the last one first; and when it was asked for.
    untagged: Vec<Result<Option<Duration>, Failure>>,
    untagged_removed: Vec<Instant>,
}

impl World {
    /// A leader that has seen these, and knows that there are no others. Of workloads it knows nothing.
    async fn with(pods: &[Value], images: &[Value]) -> Self {
        Self::that_expires_after(Duration::from_hours(1), pods, images).await
    }

    async fn that_expires_after(expiry_delay: Duration, pods: &[Value], images: &[Value]) -> Self {
        let (client, api) = MockApi::new();
        let (pod_events, pod_watch) = mpsc::unbounded_channel();
        let (image_events, image_watch) = mpsc::unbounded_channel();
        let (workload_events, workload_watch) = mpsc::unbounded_channel();
        let registry = Arc::<Mutex<Holdings>>::default();
        let (asks, asks_asked) = mpsc::unbounded_channel();
        let (removals, removals_asked) = mpsc::unbounded_channel();
        let (copies, copies_asked) = mpsc::unbounded_channel();
        let (finds, finds_asked) = mpsc::unbounded_channel();
        let (mut metrics, readiness) = (Registry::default(), Readiness::new());
        let (platforms, wanted) = watch::channel(Some(Platforms::All));
        let reconciler = Reconciler::new(
            Cluster::new(client.clone(), "me".to_owned()),
            Survey::new(client, NodeAddress::default()),
            Arc::new(Scripted { registry: registry.clone(), asks, removals, copies, finds }),
            Settings {
                node: NodeAddress::default(),
                parallel_copies: 2,
                expiry_delay,
                update_interval: Duration::ZERO,
                max_size: Some(MAX_SIZE),
                platforms: Wanted::as_told(wanted),
                remove_untagged_after: Some(Duration::from_hours(24)),
            },
            Metrics::register(&mut metrics),
            readiness.hold("all of it"),
        );
        let events = |watch| {
            stream::unfold(watch, |mut watch: mpsc::UnboundedReceiver<_>| async {
                watch.recv().await.map(|event| (Ok(event), watch))
            })
        };
        let (pod_stream, image_stream) = (
            events(pod_watch),
            stream::unfold(image_watch, |mut watch| async { watch.recv().await.map(|event| (Ok(event), watch)) }),
        );
        let workload_stream = stream::unfold(workload_watch, |mut watch: mpsc::UnboundedReceiver<_>| async {
            watch.recv().await.map(|(kind, event)| ((kind, Ok(event)), watch))
        });
        let running = Running(tokio::spawn(async move {
            let panicked = reconciler.run(pod_stream, workload_stream, image_stream).await;
            panic!("{panicked}");
        }));
        let world = Self {
            api,
            pods: pod_events,
            workloads: workload_events,
            images: image_events,
            registry,
            wanted: platforms,
            asks: asks_asked,
            removals: removals_asked,
            copies: copies_asked,
            finds: finds_asked,
            metrics,
            readiness,
            _running: running,
        };
        list(&world.pods, pods);
        // The paused clock goes on when nobody has anything to do: the pods are known then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        list(&world.images, images);
        world
    }

    fn changed(&self, object: &Value) {
        if object["kind"] == "Pod" {
            self.pods.send(Event::Apply(read(object))).unwrap();
        } else {
            self.images.send(Event::Apply(read(object))).unwrap();
        }
    }

    fn deleted(&self, object: &Value) {
        if object["kind"] == "Pod" {
            self.pods.send(Event::Delete(read(object))).unwrap();
        } else {
            self.images.send(Event::Delete(read(object))).unwrap();
        }
    }

    /// The next write of a status, and the object as it is afterwards.
    async fn status(&mut self, name: &str) -> (Asked, Value) {
        let asked = self.api.expect(Method::PATCH, &format!("{IMAGES}/{name}/status")).await;
        let mut written = image(name, "1000");
        written["status"] = asked.body["status"].clone();
        (asked, written)
    }

    /// Accepts the next write of a status, and tells the watch of it. Gives the condition and the status.
    async fn told(&mut self, name: &str) -> (String, Value) {
        let (asked, written) = self.status(name).await;
        asked.answer(&written);
        self.changed(&written);
        let ready = &written["status"]["conditions"][0];
        (format!("{} {}", ready["status"].as_str().unwrap(), ready["reason"].as_str().unwrap()), written)
    }

    /// Accepts the next Event, and gives its type and reason.
    async fn event(&mut self) -> String {
        let asked = self.api.expect(Method::POST, EVENTS).await;
        let event = asked.body.clone();
        asked.answer(&event);
        format!("{} {}", event["type"].as_str().unwrap(), event["reason"].as_str().unwrap())
    }

    async fn copy(&mut self) -> Ask<Copied> {
        tokio::time::timeout(Duration::from_hours(2), self.copies.recv()).await.expect("a copy").unwrap()
    }

    async fn removal(&mut self) -> Ask<()> {
        tokio::time::timeout(Duration::from_hours(2), self.removals.recv()).await.expect("a removal").unwrap()
    }

    /// The next creation of a `CachedImage`. Statuses that are written before are taken.
    async fn next_create(&mut self) -> Asked {
        loop {
            let asked = self.api.asked().await;
            if asked.method == Method::POST && asked.path == IMAGES {
                return asked;
            }
            let object = asked.body.clone();
            asked.answer(&object);
        }
    }

    /// What the watches of workloads bring at the beginning: these Deployments and nothing else.
    fn lists_workloads(&self, deployments: &[Value]) {
        for kind in Kind::ALL {
            self.workloads.send((kind, Event::Init)).ok().unwrap();
            for workload in deployments.iter().filter(|_| kind == Kind::Deployment) {
                self.workloads.send((kind, Event::InitApply(read(workload)))).ok().unwrap();
            }
            self.workloads.send((kind, Event::InitDone)).ok().unwrap();
        }
    }

    /// Answers a look at what is in use: with these objects, by path, and none of the others.
    async fn surveyed(&mut self, objects: &[(&str, Value)]) {
        for path in SURVEYED {
            let asked = self.api.expect(Method::GET, path).await;
            assert!(asked.query.contains("limit=250") && !asked.query.contains("resourceVersion"), "{}", asked.query);
            let items: Vec<_> = objects.iter().filter(|(of, _)| *of == path).map(|(_, object)| object).collect();
            asked.answer(&json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}));
        }
    }

    async fn find(&mut self) -> Ask<Found> {
        tokio::time::timeout(Duration::from_hours(2), self.finds.recv()).await.expect("a check").unwrap()
    }

    /// Nothing is asked of the API server or of registries for so long.
    async fn rests(&mut self, time: Duration) {
        tokio::select! {
            asked = self.api.asked() => panic!("{} {} {}", asked.method, asked.path, asked.body),
            Some(copy) = self.copies.recv() => panic!("copies {}", copy.source),
            Some(find) = self.finds.recv() => panic!("checks {}", find.source),
            Some(ask) = self.asks.recv() => panic!("asks about {}", ask.source),
            Some(removal) = self.removals.recv() => panic!("removes {}", removal.source),
            () = tokio::time::sleep(time) => {}
        }
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        text.lines().any(|found| found == line)
    }
}

fn list<K>(watch: &Watch<K>, objects: &[Value])
where
    DeserializeGuard<K>: serde::de::DeserializeOwned,
{
    watch.send(Event::Init).ok().unwrap();
    for object in objects {
        watch.send(Event::InitApply(read(object))).ok().unwrap();
    }
    watch.send(Event::InitDone).ok().unwrap();
}

fn read<K>(object: &Value) -> DeserializeGuard<K>
where
    DeserializeGuard<K>: serde::de::DeserializeOwned,
{
    serde_json::from_value(object.clone()).unwrap()
}

fn pod(name: &str, source: &str) -> Value {
    let source: Reference = source.parse().unwrap();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"containers": [{"name": "main", "image": NodeAddress::default().of(&source).to_string()}]},
    })
}

/// The `CachedImage` of `<name>:1`, without a status.
fn image(name: &str, resource_version: &str) -> Value {
    json!({
        "apiVersion": "cache-registry.enix.io/v1alpha1",
        "kind": "CachedImage",
        "metadata": {"name": name, "uid": format!("uid-of-{name}"), "generation": 1, "resourceVersion": resource_version},
        "spec": {"sourceImage": format!("docker.io/library/{name}:1")},
    })
}

/// The same, found in the registry ten minutes ago.
fn cached(name: &str) -> Value {
    let checked = (Timestamp::now() - jiff::SignedDuration::from_mins(10)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut image = image(name, "10");
    image["status"] = json!({
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Cached", "observedGeneration": 1,
            "message": format!("The registry has it as docker.io/library/{name}:1."), "lastTransitionTime": checked,
        }],
        "digest": digest(name), "size": 5, "platforms": ["linux/amd64"], "lastCopied": checked, "lastChecked": checked,
        "usedBy": {"count": 0}, "observedGeneration": 1,
    });
    image
}

fn digest(name: &str) -> String {
    Hasher::sha256(name.as_bytes()).to_string()
}

fn copied(name: &str) -> Copied {
    Copied {
        digest: Hasher::sha256(name.as_bytes()),
        size: 5,
        platforms: vec!["linux/amd64".to_owned()],
        bytes_uploaded: 3,
        notes: Vec::new(),
    }
}

fn failure(reason: Reason, retry_after: Option<u64>) -> Failure {
    Failure { reason, message: "It broke".to_owned(), retry_after: retry_after.map(Duration::from_secs) }
}

#[tokio::test(start_paused = true)]
async fn the_image_of_a_pod_is_created_copied_and_reported() {
    let mut world = World::with(&[pod("a", "web:1"), pod("b", "web:1")], &[]).await;
    let create = world.api.expect(Method::POST, IMAGES).await;
    let source: Reference = "docker.io/library/web:1".parse().unwrap();
    assert_eq!(create.body["metadata"]["name"], object_name(&source));
    assert_eq!(create.body["spec"], json!({"sourceImage": "docker.io/library/web:1"}));
    create.answer(&image("web", "1"));
    assert!(world.readiness.waiting_for().is_empty(), "all that exists is known");

    world.changed(&image("web", "1"));
    let copy = world.copy().await;
    assert_eq!(copy.source, "docker.io/library/web:1");
    let (says, object) = world.told("web").await;
    assert_eq!(says, "False Copying");
    assert_eq!(object["status"]["usedBy"], json!({"count": 2, "pods": ["ns/a", "ns/b"]}));
    assert_eq!(world.event().await, "Normal Copying");
    assert!(world.metric(r#"cache_registry_cached_images{reason="Copying"} 1"#));

    copy.answer(Ok(copied("web")));
    let (says, object) = world.told("web").await;
    assert_eq!(says, "True Cached");
    assert_eq!(object["status"]["digest"], digest("web"));
    assert_eq!(object["status"]["platforms"], json!(["linux/amd64"]));
    assert_eq!(world.event().await, "Normal Cached");
    world.rests(Duration::from_mins(50)).await;
    assert!(world.metric(r#"cache_registry_cached_images{reason="Cached"} 1"#));
    assert!(world.metric(r#"cache_registry_cached_images{reason="Copying"} 0"#));
    assert!(world.metric(r#"cache_registry_copies_total{reason="Cached"} 1"#));
    assert!(world.metric("cache_registry_copied_bytes_total 3"));
}

#[tokio::test(start_paused = true)]
async fn copies_that_wait_for_their_turn_are_counted() {
    let mut world = World::with(&[], &[image("a", "1"), image("b", "1"), image("c", "1")]).await;
    let (first, _second) = (world.copy().await, world.copy().await);
    assert!(world.metric(r#"cache_registry_tasks_running{task="copy"} 2"#));
    assert!(world.metric(r#"cache_registry_tasks_waiting{task="copy"} 1"#));
    assert!(world.metric(r#"cache_registry_tasks_waiting{task="check"} 0"#));
    first.answer(Ok(copied("a")));
    let _third = world.copy().await;
    assert!(world.metric(r#"cache_registry_tasks_running{task="copy"} 2"#));
    assert!(world.metric(r#"cache_registry_tasks_waiting{task="copy"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_says_of_images_is_counted() {
    let mut world = World::with(&[], &[cached("a"), cached("b"), cached("c")]).await;
    assert!(world.metric(r#"cache_registry_checks_total{outcome="lost"} 0"#));
    world.find().await.answer(Ok(Found::Manifest(None)));
    world.find().await.answer(Ok(Found::Nothing));
    world.find().await.answer(Err(failure(Reason::RegistryUnreachable, None)));
    let _copy = world.copy().await;
    assert!(world.metric(r#"cache_registry_checks_total{outcome="found"} 1"#));
    assert!(world.metric(r#"cache_registry_checks_total{outcome="partial"} 0"#));
    assert!(world.metric(r#"cache_registry_checks_total{outcome="lost"} 1"#));
    assert!(world.metric(r#"cache_registry_checks_total{outcome="failed"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn the_write_of_a_status_is_an_apply_to_this_very_object() {
    let mut world = World::with(&[], &[image("web", "1")]).await;
    let _copy = world.copy().await;
    let (asked, _) = world.status("web").await;
    assert!(
        asked.query.contains("fieldManager=cache-registry") && asked.query.contains("force=true"),
        "{}",
        asked.query
    );
    assert_eq!(asked.body["metadata"], json!({"name": "web", "uid": "uid-of-web"}));
    assert_eq!(asked.body["spec"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_and_tried_again_with_growing_pauses() {
    let mut world = World::with(&[], &[image("web", "1")]).await;
    let copy = world.copy().await;
    assert_eq!(world.told("web").await.0, "False Copying");
    assert_eq!(world.event().await, "Normal Copying");
    copy.answer(Err(failure(Reason::NotFound, None)));
    let (says, object) = world.told("web").await;
    assert_eq!(says, "False NotFound");
    assert_eq!(object["status"]["conditions"][0]["message"], "It broke. It is tried again without being asked.");
    assert_eq!(world.event().await, "Warning NotFound");
    let mut began = Instant::now();
    for (shortest, longest) in
        [(4, 5), (8, 10), (16, 20), (32, 40), (64, 80), (128, 160), (256, 320), (480, 600), (480, 600)]
    {
        // Neither a write nor an Event in between.
        world.rests(Duration::from_secs(shortest)).await;
        let copy = world.copy().await;
        assert!(began.elapsed() <= Duration::from_secs(longest), "{:?}", began.elapsed());
        copy.answer(Err(failure(Reason::NotFound, None)));
        began = Instant::now();
    }
    world.copy().await.answer(Ok(copied("web")));
    assert_eq!(world.told("web").await.0, "True Cached");
    assert_eq!(world.event().await, "Normal Cached");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_asks_for_time_gets_it() {
    let mut world = World::with(&[], &[image("web", "1")]).await;
    world.copy().await.answer(Err(failure(Reason::RateLimited, Some(1800))));
    while world.told("web").await.0 != "False RateLimited" {
        world.event().await;
    }
    assert_eq!(world.event().await, "Warning RateLimited");
    world.rests(Duration::from_mins(30)).await;
    assert_eq!(world.copy().await.source, "docker.io/library/web:1");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_registry_is_tried_again_soon() {
    let mut world = World::with(&[], &[cached("web")]).await;
    world.find().await.answer(Err(failure(Reason::RegistryUnreachable, None)));
    let (says, object) = world.told("web").await;
    assert_eq!(says, "Unknown RegistryUnreachable");
    assert_eq!(object["status"]["digest"], digest("web"));
    assert_eq!(world.event().await, "Warning RegistryUnreachable");
    for _ in 0..20 {
        let began = Instant::now();
        let find = world.find().await;
        assert!(began.elapsed() <= Duration::from_secs(15), "{:?}", began.elapsed());
        find.answer(Err(failure(Reason::RegistryUnreachable, None)));
    }
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    assert_eq!(world.told("web").await.0, "True Cached");
}

#[tokio::test(start_paused = true)]
async fn at_rest_nothing_is_written() {
    let images: Vec<_> = (0..50).map(|number| cached(&format!("image{number}"))).collect();
    let mut world = World::with(&[], &images).await;
    for _ in 0..50 {
        let find = world.find().await;
        let name = find.source.trim_start_matches("docker.io/library/").trim_end_matches(":1").to_owned();
        find.answer(Ok(Found::Manifest(Some(digest(&name)))));
    }
    // What the kubelets write all day is no news either.
    world.changed(&pod("a", "other.example/app:1"));
    world.api.expect(Method::POST, IMAGES).await.refuse(409, "AlreadyExists");
    for _ in 0..10 {
        world.changed(&pod("a", "other.example/app:1"));
        world.rests(Duration::from_mins(1)).await;
    }
    world.rests(Duration::from_mins(40)).await;
}

#[tokio::test(start_paused = true)]
async fn the_registry_is_asked_now_and_then() {
    let mut world = World::with(&[], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    let began = Instant::now();
    world.find().await.answer(Ok(Found::Manifest(None)));
    let waited = began.elapsed().as_secs();
    assert!((54 * 60..=66 * 60).contains(&waited), "{waited}");
    world.rests(Duration::from_mins(50)).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_lost_is_copied_again() {
    for found in [Found::Nothing, Found::Manifest(Some(digest("something else")))] {
        let mut world = World::with(&[], &[cached("web")]).await;
        world.find().await.answer(Ok(found));
        let copy = world.copy().await;
        assert_eq!(world.told("web").await.0, "False Copying");
        assert_eq!(world.event().await, "Normal Copying");
        copy.answer(Ok(copied("web")));
        assert_eq!(world.told("web").await.0, "True Cached");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_a_crash_cut_short_is_finished_by_the_next_leader() {
    let mut copying = cached("web");
    copying["status"]["conditions"][0]["status"] = json!("False");
    copying["status"]["conditions"][0]["reason"] = json!("Copying");
    copying["status"]["conditions"][0]["message"] = json!("Copying from docker.io.");
    let mut world = World::with(&[], &[copying]).await;
    let copy = world.copy().await;
    world.rests(Duration::from_mins(5)).await;
    copy.answer(Ok(copied("web")));
    assert_eq!(world.told("web").await.0, "True Cached");
}

/// An API server that accepts everything.
fn answering(mut api: MockApi) -> Running {
    Running(tokio::spawn(async move {
        loop {
            let asked = api.asked().await;
            let mut object = asked.body.clone();
            if asked.path != EVENTS {
                object = image(asked.path.split('/').rev().nth(1).unwrap(), "1000");
                object["status"] = asked.body["status"].clone();
            }
            asked.answer(&object);
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn so_many_are_copied_at_once_and_a_failure_holds_up_no_other() {
    let images = ["a", "b", "c", "d"].map(|name| image(name, "1"));
    let mut world = World::with(&[], &images).await;
    let (_, idle) = MockApi::new();
    let _answering = answering(std::mem::replace(&mut world.api, idle));
    let (a, b) = (world.copy().await, world.copy().await);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(world.copies.try_recv().is_err(), "two at once");
    a.answer(Err(failure(Reason::UpstreamUnreachable, None)));
    let c = world.copy().await;
    assert_eq!(c.source, "docker.io/library/c:1");
    b.answer(Ok(copied("b")));
    assert_eq!(world.copy().await.source, "docker.io/library/d:1");
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_its_turn_says_so() {
    let images = ["a", "b", "c"].map(|name| image(name, "1"));
    let mut world = World::with(&[], &images).await;
    let mut messages = Vec::new();
    for _ in 0..3 {
        let asked = world.api.asked().await;
        messages.push(asked.body["status"]["conditions"][0]["message"].as_str().unwrap().to_owned());
        // Kept waiting: the Events would follow otherwise.
        std::mem::forget(asked);
    }
    messages.sort();
    let copying = "Copying from docker.io.";
    assert_eq!(messages, [copying, copying, "Waiting for its turn to be copied from docker.io."]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_while_pods_use_it_is_created_again() {
    let mut world = World::with(&[pod("a", "web:1")], &[image("web", "1")]).await;
    let copy = world.copy().await;
    let (asked, written) = world.status("web").await;
    world.deleted(&written);
    asked.refuse(404, "NotFound");
    let create = world.api.expect(Method::POST, IMAGES).await;
    assert_eq!(create.body["spec"]["sourceImage"], "docker.io/library/web:1");
    create.answer(&image("web", "2000"));
    assert!(copy.answer.is_closed(), "its copy has stopped");
}

#[tokio::test(start_paused = true)]
async fn one_that_no_pod_uses_stays_deleted() {
    let mut world = World::with(&[], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    world.deleted(&cached("web"));
    world.removal().await.answer(Ok(()));
    world.rests(Duration::from_hours(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_persons_own_will_do() {
    let mut mine = cached("web");
    mine["metadata"]["name"] = json!("my-favourite");
    mine["status"]["usedBy"] = json!({"count": 1, "pods": ["ns/a"]});
    let mut world = World::with(&[pod("a", "web:1")], &[mine]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    world.rests(Duration::from_mins(30)).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_no_reference_is_told() {
    let mut image = image("bad", "1");
    image["spec"]["sourceImage"] = json!("No Reference");
    let mut world = World::with(&[], &[image]).await;
    let (asked, mut written) = world.status("bad").await;
    written["spec"]["sourceImage"] = json!("No Reference");
    assert_eq!(asked.body["status"]["conditions"][0]["reason"], "InvalidReference");
    asked.answer(&written);
    assert_eq!(world.event().await, "Warning InvalidReference");
    world.rests(Duration::from_hours(3)).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_stops_nothing() {
    let mut unreadable = image("unreadable", "1");
    unreadable["spec"] = json!({"sourceImage": {"not": "a text"}});
    let mut odd = pod("odd", "web:1");
    odd["spec"]["containers"] = json!("none");
    let mut world = World::with(&[odd, pod("a", "web:1")], &[unreadable, cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    let (_, object) = world.told("web").await;
    assert_eq!(object["status"]["usedBy"], json!({"count": 1, "pods": ["ns/a"]}));
    world.rests(Duration::from_mins(30)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_come_in_a_crowd_are_told_of_at_once() {
    let mut world = World::with(&[], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    world.rests(Duration::from_secs(5)).await;
    for number in 0..50 {
        world.changed(&pod(&format!("p{number:02}"), "web:1"));
    }
    let (_, object) = world.told("web").await;
    assert_eq!(object["status"]["usedBy"]["count"], 50);
    assert_eq!(object["status"]["usedBy"]["pods"].as_array().unwrap().len(), 10);
    world.rests(Duration::from_mins(30)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_went_while_nobody_led_are_told_of() {
    let mut image = cached("web");
    image["status"]["usedBy"] = json!({"count": 1, "pods": ["ns/gone"]});
    let mut world = World::with(&[], &[]).await;
    list(&world.images, &[image]);
    let find = world.find().await;
    assert_eq!(world.told("web").await.1["status"]["usedBy"], json!({"count": 0}));
    find.answer(Ok(Found::Manifest(None)));
    world.rests(Duration::from_mins(30)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_known_late_are_told_of() {
    let mut image = cached("web");
    image["status"]["usedBy"] = json!({"count": 1, "pods": ["ns/gone"]});
    let mut world = World::with(&[], &[image]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    assert_eq!(world.told("web").await.1["status"]["usedBy"], json!({"count": 0}));
    // A watch that had to start over.
    list(&world.pods, &[pod("a", "web:1")]);
    assert_eq!(world.told("web").await.1["status"]["usedBy"], json!({"count": 1, "pods": ["ns/a"]}));
    list(&world.pods, &[]);
    assert_eq!(world.told("web").await.1["status"]["usedBy"], json!({"count": 0}));
}

#[tokio::test(start_paused = true)]
async fn a_late_word_from_the_watch_undoes_nothing() {
    let mut world = World::with(&[], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    world.changed(&pod("a", "web:1"));
    let (asked, written) = world.status("web").await;
    asked.answer(&written);
    world.rests(Duration::from_secs(1)).await;
    // From before the write: not a reason to write it again.
    let mut stale = cached("web");
    stale["metadata"]["resourceVersion"] = json!("11");
    world.changed(&stale);
    world.rests(Duration::from_mins(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_tried_with_pauses() {
    let mut world = World::with(&[pod("a", "web:1")], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    for pause in [800, 1600, 3200] {
        world.status("web").await.0.refuse(500, "InternalError");
        world.rests(Duration::from_millis(pause)).await;
    }
    assert_eq!(world.told("web").await.1["status"]["usedBy"]["count"], 1);
    world.rests(Duration::from_mins(10)).await;
    assert!(world.metric(r#"cache_registry_reconcile_errors_total{operation="status"} 3"#));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_keeps_something_else_is_not_written_to_for_ever() {
    let mut world = World::with(&[pod("a", "web:1")], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(None)));
    for pause in [800, 1600, 3200, 6400] {
        // An older CRD has no `usedBy`.
        let (asked, mut written) = world.status("web").await;
        written["status"].as_object_mut().unwrap().remove("usedBy");
        asked.answer(&written);
        world.rests(Duration::from_millis(pause)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn creating_is_tried_until_it_works() {
    let mut world = World::with(&[pod("a", "web:1")], &[]).await;
    for pause in [800, 1600] {
        world.api.expect(Method::POST, IMAGES).await.refuse(403, "Forbidden");
        world.rests(Duration::from_millis(pause)).await;
    }
    world.api.expect(Method::POST, IMAGES).await.answer(&image("web", "1"));
    world.rests(Duration::from_mins(10)).await;
}
