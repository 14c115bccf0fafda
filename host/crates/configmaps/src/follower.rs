use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_registry_policy::Policy;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::mpsc;

use crate::arrangement::{Loaded, Pulled};
use crate::declaration::{Image, decode};
use crate::loader::{Code, Loader, off_the_request_path};
use crate::roster::Outcome;
use crate::{Declaration, Refusal, Source};

/// Sees to one version of a `ConfigMap`: loads it, and for as long as it is the newest, looks after what its image's
/// tag names.
pub(crate) struct Follower<R> {
    pub(crate) configmap: String,
    /// The number under which the roster awaits it.
    pub(crate) number: u64,
    pub(crate) loader: Loader,
    pub(crate) registry: Arc<R>,
    /// How often tags are looked at.
    pub(crate) interval: Duration,
    pub(crate) reports: mpsc::Sender<Report>,
}

/// What has become of a version, or of its image since.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) configmap: String,
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
}

/// Where images of policies are.
pub(crate) trait PolicyRegistry: Send + Sync + 'static {
    /// The digest of the manifest that the reference names now.
    fn digest(&self, image: &Image) -> impl Future<Output = Result<String, NotFetched>> + Send;

    /// What the reference names now: the digest of its manifest, and the component.
    fn pull(&self, image: &Image) -> impl Future<Output = Result<(String, Bytes), NotFetched>> + Send;
}

/// An image that did not come.
#[derive(Debug)]
pub(crate) struct NotFetched {
    pub(crate) refusal: Refusal,
    /// How long the registry asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// The pause after the first attempt that failed. It doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause of a policy that waits for others.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

impl<R: PolicyRegistry> Follower<R> {
    /// Goes on until it is dropped where there is an image to look after. `before` is what was pulled for the version
    /// before: new settings must not wait for a registry.
    pub(crate) async fn follow(self, configmap: ConfigMap, before: Option<Pulled>) {
        let declaration = match off_the_request_path(move || decode(configmap)).await {
            Ok(declaration) => declaration,
            Err(refusal) => return self.report(Outcome::Refused(refusal)).await,
        };
        if !declaration.enabled {
            return self.report(self.loaded(&declaration, None, None)).await;
        }
        let code = match &declaration.source {
            Source::Inline(component) => Code::Bytes(component.clone()),
            Source::BuiltIn(name) => Code::BuiltIn(name),
            Source::Image(image) => return self.follow_image(&declaration, image, before).await,
        };
        let outcome = match self.load(&declaration, code).await {
            Ok(policy) => self.loaded(&declaration, Some(policy), None),
            Err(refusal) => Outcome::Refused(refusal),
        };
        self.report(outcome).await;
    }

    /// Loads a policy. One that has no turn because of others is told to be refused, and gets it later.
    async fn load(&self, declaration: &Declaration, code: Code) -> Result<Arc<Policy>, Refusal> {
        let mut attempts = 0;
        loop {
            match self.loader.load(&declaration.name, code.clone(), &declaration.settings).await {
                Err(refusal) if refusal.is_passing() => self.report(Outcome::Refused(refusal)).await,
                loaded => return loaded,
            }
            attempts += 1;
            tokio::time::sleep(spread(pause(attempts, LONGEST_PAUSE))).await;
        }
    }

    async fn follow_image(&self, declaration: &Declaration, image: &Image, before: Option<Pulled>) {
        let mut held = None;
        if let Some(pulled) = before.filter(|pulled| pulled.reference == image.reference.to_string()) {
            let code = Code::Component(pulled.component);
            held = Some(self.load_image(declaration, image, pulled.digest, code).await);
            if !image.reference.can_move() {
                return;
            }
            tokio::time::sleep(spread(self.interval)).await;
        }
        let mut failures = 0;
        loop {
            let pause = match self.look(image, held.as_ref()).await {
                Ok(news) => {
                    failures = 0;
                    match (news, &held) {
                        (Some((digest, component)), _) => {
                            held = Some(self.load_image(declaration, image, digest, Code::Bytes(component)).await);
                        }
                        // It is what it was: as right, or as wrong, as then.
                        (None, Some(Held { refusal: Some(refusal), .. })) => {
                            self.report(Outcome::Refused(refusal.clone())).await;
                        }
                        (None, _) => self.report(Outcome::Unchanged).await,
                    }
                    if !image.reference.can_move() {
                        return;
                    }
                    self.interval
                }
                Err(failure) => {
                    failures += 1;
                    tracing::debug!(configmap = self.configmap, failures, error = %failure.refusal, "no image of a policy");
                    self.report(Outcome::Refused(failure.refusal)).await;
                    pause(failures, self.interval).max(failure.retry_after.unwrap_or_default())
                }
            };
            tokio::time::sleep(spread(pause)).await;
        }
    }

    /// What the reference names now; `None` where that is what is held.
    async fn look(&self, image: &Image, held: Option<&Held>) -> Result<Option<(String, Bytes)>, NotFetched> {
        if let Some(held) = held
            && held.digest == self.registry.digest(image).await?
        {
            return Ok(None);
        }
        self.registry.pull(image).await.map(Some)
    }

    async fn load_image(&self, declaration: &Declaration, image: &Image, digest: String, code: Code) -> Held {
        let (outcome, refusal) = match self.load(declaration, code).await {
            Ok(policy) => {
                let reference = image.reference.to_string();
                let component = policy.component().clone();
                let pulled = Pulled { reference, digest: digest.clone(), component };
                (self.loaded(declaration, Some(policy), Some(pulled)), None)
            }
            Err(refusal) => (Outcome::Refused(refusal.clone()), Some(refusal)),
        };
        self.report(outcome).await;
        Held { digest, refusal }
    }

    fn loaded(&self, declaration: &Declaration, policy: Option<Arc<Policy>>, pulled: Option<Pulled>) -> Outcome {
        Outcome::Loaded(Box::new(Loaded::new(&self.configmap, self.number, declaration, policy, pulled)))
    }

    async fn report(&self, outcome: Outcome) {
        let report = Report { configmap: self.configmap.clone(), number: self.number, outcome };
        // Nobody listens any more when all of it ends.
        let _ = self.reports.send(report).await;
    }
}

/// What was pulled last.
struct Held {
    digest: String,
    /// Why it is not in force.
    refusal: Option<Refusal>,
}

/// The pause after so many attempts in a row that failed, at least 1.
fn pause(failures: u32, interval: Duration) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(interval.max(FIRST_PAUSE))
}

/// Longer by up to a tenth, so that replicas do not ask at once.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock_registry::MockRegistry;
    use crate::tests::engine;
    use cache_registry_policy::built_in::{DEFAULT_FILTER, DEFAULT_REWRITE, ReleaseSettings};
    use serde_json::{Value, json};
    use tokio::time::Instant;

    const INTERVAL: Duration = Duration::from_mins(5);

    /// A follower at work, and what it has said.
    struct Following {
        reports: mpsc::Receiver<Report>,
        registry: Arc<MockRegistry>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Following {
        fn start(data: &Value, registry: MockRegistry, before: Option<Pulled>) -> Self {
            let (reports, received) = mpsc::channel(1);
            let registry = Arc::new(registry);
            let follower = Follower {
                configmap: "mine".to_owned(),
                number: 7,
                loader: Loader::new(engine(), ReleaseSettings::default()),
                registry: Arc::clone(&registry),
                interval: INTERVAL,
                reports,
            };
            let configmap = json!({ "metadata": { "name": "mine" }, "data": data });
            let configmap = serde_json::from_value(configmap).unwrap();
            Self { reports: received, registry, task: tokio::spawn(follower.follow(configmap, before)) }
        }

        /// What it says next, in a word, and after how long.
        async fn says(&mut self) -> (String, Duration) {
            let asked = Instant::now();
            let report = self.reports.recv().await.expect("a report");
            assert_eq!((report.configmap.as_str(), report.number), ("mine", 7));
            let word = match report.outcome {
                Outcome::Loaded(loaded) => match loaded.pulled {
                    Some(pulled) => pulled.digest,
                    None => loaded.policy.map_or("off", |_| "loaded").to_owned(),
                },
                Outcome::Refused(refusal) => refusal.reason().to_owned(),
                Outcome::Unchanged => "unchanged".to_owned(),
            };
            (word, asked.elapsed())
        }

        async fn says_in_time(&mut self, word: &str, time: Duration) {
            let (said, after) = self.says().await;
            assert_eq!(said, word);
            assert!(after >= time && after <= time.mul_f64(1.11) + Duration::from_millis(2), "{word} after {after:?}");
        }

        async fn ends(self) {
            tokio::time::timeout(Duration::from_hours(1), self.task).await.expect("an end").unwrap();
        }
    }

    fn image(reference: &str) -> Value {
        json!({ "image": reference })
    }

    const TAG: &str = "reg.example/policy:1";

    #[tokio::test(start_paused = true)]
    async fn what_needs_no_registry_is_loaded_or_refused_at_once() {
        for (data, word) in [
            (json!({ "builtIn": "default-filter" }), "loaded"),
            (json!({ "builtIn": "default-filter", "enabled": "false" }), "off"),
            (json!({ "policy.wasm": "no wasm", "enabled": "false" }), "off"),
            (json!({ "policy.wasm": "no wasm" }), "not-wasm"),
            (json!({ "policy.wasm": "" }), "empty"),
            (json!({ "policy.wasm": "\u{0}asm\u{1}\u{0}\u{0}\u{0}" }), "core-module"),
            (json!({ "settings": "a: 1" }), "source"),
        ] {
            let mut following = Following::start(&data, MockRegistry::away(), None);
            following.says_in_time(word, Duration::ZERO).await;
            assert_eq!(following.registry.asked(), (0, 0));
            following.ends().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_by_digest_is_pulled_once() {
        let digest = format!("reg.example/policy@sha256:{}", "a".repeat(64));
        let mut following = Following::start(&image(&digest), MockRegistry::with("d1", DEFAULT_FILTER), None);
        following.says_in_time("d1", Duration::ZERO).await;
        assert_eq!(following.registry.asked(), (0, 1));
        following.ends().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_is_looked_at_and_pulled_when_it_moves() {
        let mut following = Following::start(&image(TAG), MockRegistry::with("d1", DEFAULT_FILTER), None);
        following.says_in_time("d1", Duration::ZERO).await;
        following.says_in_time("unchanged", INTERVAL).await;
        assert_eq!(following.registry.asked(), (1, 1));
        following.registry.has("d2", DEFAULT_REWRITE);
        following.says_in_time("d2", INTERVAL).await;
        assert_eq!(following.registry.asked(), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_is_away_is_asked_again_with_longer_pauses() {
        let mut following = Following::start(&image(TAG), MockRegistry::away(), None);
        following.says_in_time("image-unreachable", Duration::ZERO).await;
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            following.says_in_time("image-unreachable", Duration::from_secs(seconds)).await;
        }
        following.registry.has("d1", DEFAULT_FILTER);
        following.says_in_time("d1", INTERVAL).await;
        // Once it was there, an absence is told, and its end too.
        following.registry.goes();
        following.says_in_time("image-unreachable", INTERVAL).await;
        following.registry.has("d1", DEFAULT_FILTER);
        following.says_in_time("unchanged", FIRST_PAUSE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_asks_to_be_left_alone_is() {
        let mut following = Following::start(&image(TAG), MockRegistry::limited(Duration::from_mins(20)), None);
        following.says_in_time("image-rate-limited", Duration::ZERO).await;
        following.says_in_time("image-rate-limited", Duration::from_mins(20)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_is_wrong_is_not_pulled_again_until_the_tag_moves() {
        let mut following = Following::start(&image(TAG), MockRegistry::with("d1", b"no wasm"), None);
        following.says_in_time("not-wasm", Duration::ZERO).await;
        following.says_in_time("not-wasm", INTERVAL).await;
        assert_eq!(following.registry.asked(), (1, 1));
        following.registry.has("d2", DEFAULT_FILTER);
        following.says_in_time("d2", INTERVAL).await;
    }

    #[expect(clippy::unnecessary_wraps, reason = "a follower may begin with none")]
    fn before(reference: &str) -> Option<Pulled> {
        let component = engine().compile(DEFAULT_FILTER).unwrap();
        Some(Pulled { reference: reference.to_owned(), digest: "d0".to_owned(), component })
    }

    #[tokio::test(start_paused = true)]
    async fn new_settings_do_not_wait_for_a_registry() {
        let mut following = Following::start(&image(TAG), MockRegistry::with("d1", DEFAULT_REWRITE), before(TAG));
        following.says_in_time("d0", Duration::ZERO).await;
        assert_eq!(following.registry.asked(), (0, 0));
        following.says_in_time("d1", INTERVAL).await;
    }

    #[tokio::test(start_paused = true)]
    async fn another_reference_is_pulled_whatever_was_there_before() {
        let registry = MockRegistry::with("d1", DEFAULT_REWRITE);
        let mut following = Following::start(&image(TAG), registry, before("reg.example/policy:0"));
        following.says_in_time("d1", Duration::ZERO).await;
    }
}
