use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cache_registry_api::labels::IMAGES_ANNOTATION;
use cache_registry_bed::{Bed, NAMESPACE, Options};
use cache_registry_guests::{Answer, filter_answering};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

use crate::load::Load;
use crate::paced::{Answered, Paced, Stop, quantile};
use crate::review::review;
use crate::row::{Better, Row, median};
use crate::webhook::{request, trusting};

const VERSIONS: usize = 100;
const PER_SECOND: u32 = 1000;
const CONNECTIONS: usize = 8;
/// Long enough to have as many reviews without a reload as with one.
const QUIET: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(50);
const NAME: &str = "versions";

/// Reviews at a fixed rate against the webhook of a cluster, while its policy is replaced through the API server: each
/// version is another component, which says its number for every container.
pub(crate) async fn measure() -> Result<Vec<Row>> {
    let mut bed = Bed::start(Options::default()).await?;
    let configmaps: Api<ConfigMap> = Api::namespaced(bed.control_plane.client(), NAMESPACE);
    let seen = Seen::default();
    let load = load(&bed)?;
    let paced = |stop| Paced { load: load.clone(), per_second: PER_SECOND, stop };

    let measured = async {
        put(&configmaps, 0).await?;
        let first = Stop::When(Arc::clone(&seen.first));
        paced(first).run(seen.reader()).await?;
        let quiet = paced(Stop::After(QUIET)).run(seen.reader()).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let replaced = async {
            let replaced = replace(&configmaps, &seen).await;
            stop.store(true, Ordering::Relaxed);
            replaced
        };
        let reloading = paced(Stop::When(Arc::clone(&stop)));
        let (answered, delays) = tokio::join!(reloading.run(seen.reader()), replaced);
        anyhow::Ok((quiet, answered?, delays?))
    };
    let measured = tokio::time::timeout(Duration::from_mins(3), measured).await;
    let state = if matches!(measured, Ok(Ok(_))) { String::new() } else { bed.state().await };
    let (quiet, answered, delays) = measured.context("not done in time").and_then(|done| done).context(state)?;
    configmaps.delete(NAME, &DeleteParams::default()).await?;

    let slowest = delays.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Row::new(
            "ConfigMap's answer to the first review by the new version, median",
            median(delays),
            "ms",
            Better::Lower,
        ),
        Row::new("ConfigMap's answer to the first review by the new version, slowest", slowest, "ms", Better::Lower)
            .target(1000.0),
        Row::new("reviews while policies are replaced", count(&answered, |_| true), "", Better::Higher)
            .against(count(&quiet, |_| true)),
        Row::new("of them without an answer, or not from one version", count(&answered, is_wrong), "", Better::Lower)
            .target(0.0)
            .against(count(&quiet, is_wrong)),
        Row::new("of them slower than 50 ms", count(&answered, is_slow), "", Better::Lower)
            .target(0.0)
            .against(count(&quiet, is_slow)),
        Row::new("review p99 while policies are replaced", quantile(&answered, 0.99), "ms", Better::Lower)
            .against(quantile(&quiet, 0.99)),
        Row::new("slowest review while policies are replaced", quantile(&answered, 1.0), "ms", Better::Lower)
            .against(quantile(&quiet, 1.0)),
    ])
}

fn load(bed: &Bed) -> Result<Load> {
    let address = bed.webhook_address();
    let connector = trusting(CertificateDer::from_pem_slice(bed.authority.pem().as_bytes())?)?;
    Ok(Load {
        address,
        tls: Some((connector, ServerName::from(address.ip()))),
        request: request("webhook", review())?,
        connections: CONNECTIONS,
        time: Duration::ZERO,
        is_right: |_| true,
    })
}

/// Puts version after version in force; returns how long each took from the API server's answer, in milliseconds.
async fn replace(configmaps: &Api<ConfigMap>, seen: &Seen) -> Result<Vec<f64>> {
    let mut delays = Vec::new();
    for version in 1..=VERSIONS {
        put(configmaps, version).await?;
        let answered = Instant::now();
        while seen.latest() < version {
            if answered.elapsed() > LONGEST {
                bail!("version {version} was not in force after {} s", LONGEST.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        delays.push(seen.at(version).saturating_duration_since(answered).as_secs_f64() * 1e3);
    }
    Ok(delays)
}

async fn put(configmaps: &Api<ConfigMap>, version: usize) -> Result<()> {
    let component = filter_answering(&Answer::Ignore(&format!("version {version}")));
    let configmap = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": NAME, "labels": { "cache-registry.enix.io/policy": "true" } },
        "binaryData": { "policy.wasm": ByteString(component) },
    });
    let parameters = PatchParams::apply("bench").force();
    configmaps.patch(NAME, &parameters, &Patch::Apply(configmap)).await?;
    Ok(())
}

/// Which versions answered, and when each first did.
#[derive(Default, Clone)]
struct Seen {
    times: Arc<Mutex<BTreeMap<usize, Instant>>>,
    latest: Arc<AtomicUsize>,
    /// True once a version has answered.
    first: Arc<AtomicBool>,
}

impl Seen {
    fn reader(&self) -> impl Fn(&Bytes) -> Option<usize> + Send + Sync + use<> {
        let seen = self.clone();
        move |answer| {
            let version = version_of(answer)?;
            seen.first.store(true, Ordering::Relaxed);
            if seen.latest.fetch_max(version, Ordering::Relaxed) < version {
                seen.times.lock().unwrap_or_else(PoisonError::into_inner).entry(version).or_insert_with(Instant::now);
            }
            Some(version)
        }
    }

    fn latest(&self) -> usize {
        self.latest.load(Ordering::Relaxed)
    }

    fn at(&self, version: usize) -> Instant {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.get(&version).copied().unwrap_or_else(Instant::now)
    }
}

/// The version that an answer is from; `None` where it is from several, from none, or warns.
fn version_of(answer: &Bytes) -> Option<usize> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let response = &answer["response"];
    if response["allowed"] != true || !response["warnings"].is_null() {
        return None;
    }
    let patch: Vec<Value> = serde_json::from_slice(&STANDARD.decode(response["patch"].as_str()?).ok()?).ok()?;
    let key = IMAGES_ANNOTATION.replace('/', "~1");
    let added = patch.iter().find(|operation| {
        operation["path"].as_str().is_some_and(|path| path == format!("/metadata/annotations/{key}"))
    })?;
    let images: BTreeMap<String, Value> = serde_json::from_str(added["value"].as_str()?).ok()?;
    let mut versions = images.values().map(|image| image["leftAlone"].as_str()?.strip_prefix("version ")?.parse().ok());
    let first: Option<usize> = versions.next()?;
    versions.all(|version| version == first).then_some(first)?
}

fn is_wrong(answered: &Answered<usize>) -> bool {
    answered.read.is_none()
}

fn is_slow(answered: &Answered<usize>) -> bool {
    answered.latency > SLOW
}

fn count(answered: &[Answered<usize>], is: impl Fn(&Answered<usize>) -> bool) -> f64 {
    let count = answered.iter().filter(|answered| is(answered)).count();
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
