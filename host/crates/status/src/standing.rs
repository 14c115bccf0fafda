use std::cmp::Reverse;
use std::collections::BTreeMap;

use cache_registry_api::{CachedImage, CachedImageStatus, CollectionRecord, CollectionReport, UP_TO_DATE};
use cache_registry_core::{Reason, Reference};
use jiff::Timestamp;
use serde::Serialize;

use crate::samples::Samples;

/// What was seen in the cluster.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) images: Vec<CachedImage>,
    /// `None` where the namespace has none.
    pub(crate) registry: Option<Registry>,
    /// One for each proxy: what it counts, or why that is not known.
    pub(crate) proxies: Vec<Result<Samples, String>>,
}

/// How the cache stands.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    pub(crate) images: Images,
    pub(crate) registry: Option<Registry>,
    pub(crate) pulls: Pulls,
    /// Those that most images are from first.
    pub(crate) upstreams: Vec<Upstream>,
    /// What is not in the registry, longest first.
    pub(crate) missing: Vec<Missing>,
    /// What expires, soonest first.
    pub(crate) expiring: Vec<Expiring>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Images {
    pub(crate) total: usize,
    /// By the reason of the condition `Ready`; without one yet, `Copying`.
    pub(crate) reasons: BTreeMap<String, usize>,
    /// Of all copies, layers that images share counted for each.
    pub(crate) bytes: u64,
}

/// The registry inside the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registry {
    pub(crate) replicas: i32,
    pub(crate) ready: i32,
    /// The garbage collection that it is stopped for.
    pub(crate) collecting: Option<CollectionRecord>,
    pub(crate) last_collection: Option<CollectionReport>,
    /// When garbage collections begin, in cron's form.
    pub(crate) schedule: Option<String>,
}

/// What proxies have served since each of them started.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pulls {
    pub(crate) proxies: usize,
    /// How many of them have told.
    pub(crate) told: usize,
    /// Why another one has not.
    pub(crate) untold: Option<String>,
    /// How many leave the registry out because it is sick.
    pub(crate) without_cache: usize,
    pub(crate) requests: Served,
    pub(crate) bytes: Served,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Served {
    pub(crate) cache: u64,
    pub(crate) upstream: u64,
    /// Requests that nobody could serve.
    pub(crate) nobody: u64,
}

/// A registry that images come from.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Upstream {
    pub(crate) host: String,
    pub(crate) images: usize,
    /// How many could not be copied, for a reason that it gave.
    pub(crate) failing: usize,
    /// Of how many it could not be asked whether they are up to date.
    pub(crate) unasked: usize,
    /// How many tags it has no more.
    pub(crate) gone: usize,
    /// Since when the first of these is so.
    pub(crate) since: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Missing {
    pub(crate) image: String,
    pub(crate) reason: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) message: String,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Expiring {
    pub(crate) image: String,
    pub(crate) bytes: u64,
    pub(crate) expires_at: Timestamp,
}

impl Standing {
    pub(crate) fn of(seen: &Seen) -> Self {
        let statuses = || seen.images.iter().filter_map(|image| Some((image, image.status.as_ref()?)));
        let mut missing: Vec<_> = seen.images.iter().filter_map(missing).collect();
        missing.sort_by_key(|missing| (missing.since.is_none(), missing.since));
        let mut expiring: Vec<_> = statuses().filter_map(|(image, status)| expiring(image, status)).collect();
        expiring.sort_by_key(|expiring| expiring.expires_at);
        Self {
            images: images(&seen.images),
            registry: seen.registry.clone(),
            pulls: pulls(&seen.proxies),
            upstreams: upstreams(&seen.images),
            missing,
            expiring,
        }
    }
}

fn images(images: &[CachedImage]) -> Images {
    let mut counted = Images { total: images.len(), ..Images::default() };
    for image in images {
        *counted.reasons.entry(reason(image).to_owned()).or_default() += 1;
        counted.bytes = counted.bytes.saturating_add(image.status.as_ref().map_or(0, bytes));
    }
    counted
}

/// One that nobody has looked at yet is about to be copied.
fn reason(image: &CachedImage) -> &str {
    let ready = image.status.as_ref().and_then(CachedImageStatus::ready);
    ready.map_or(Reason::Copying.as_str(), |ready| ready.reason.as_str())
}

fn bytes(status: &CachedImageStatus) -> u64 {
    status.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

fn missing(image: &CachedImage) -> Option<Missing> {
    let ready = image.status.as_ref().and_then(CachedImageStatus::ready);
    if ready.is_some_and(|ready| ready.status == "True") {
        return None;
    }
    Some(Missing {
        image: image.spec.source_image.clone(),
        reason: reason(image).to_owned(),
        since: ready.map(|ready| ready.last_transition_time.0),
        message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
    })
}

fn expiring(image: &CachedImage, status: &CachedImageStatus) -> Option<Expiring> {
    let expires_at = status.expires_at.as_ref()?.0;
    Some(Expiring { image: image.spec.source_image.clone(), bytes: bytes(status), expires_at })
}

fn pulls(proxies: &[Result<Samples, String>]) -> Pulls {
    let mut pulls = Pulls { proxies: proxies.len(), ..Pulls::default() };
    for proxy in proxies {
        let samples = match proxy {
            Ok(samples) => samples,
            Err(problem) => {
                pulls.untold.get_or_insert_with(|| problem.clone());
                continue;
            }
        };
        pulls.told += 1;
        let is_left_out = samples.value("cache_registry_proxy_breaker_state").is_some_and(|state| state > 0);
        pulls.without_cache += usize::from(is_left_out);
        for (served, metric, label) in [
            (&mut pulls.requests, "cache_registry_proxy_requests_total", "served_by"),
            (&mut pulls.bytes, "cache_registry_proxy_sent_bytes_total", "leg"),
        ] {
            let of = |leg| samples.sum(metric, (label, leg)).unwrap_or(0);
            // A proxy has the last manifests of the cache in memory.
            served.cache = served.cache.saturating_add(of("cache")).saturating_add(of("memory"));
            served.upstream = served.upstream.saturating_add(of("upstream"));
            served.nobody = served.nobody.saturating_add(of("nobody"));
        }
    }
    pulls
}

fn upstreams(images: &[CachedImage]) -> Vec<Upstream> {
    let mut hosts: BTreeMap<String, Upstream> = BTreeMap::new();
    for image in images {
        let Ok(source) = image.spec.source_image.parse::<Reference>() else { continue };
        let host = source.registry().to_owned();
        let new = || Upstream { host: host.clone(), images: 0, failing: 0, unasked: 0, gone: 0, since: None };
        let upstream = hosts.entry(host.clone()).or_insert_with(new);
        upstream.images += 1;
        let Some(status) = &image.status else { continue };
        let mut note = |since: Timestamp| upstream.since = Some(upstream.since.map_or(since, |known| known.min(since)));
        if let Some(ready) = status.ready().filter(|ready| ready.status != "True" && is_upstreams(&ready.reason)) {
            note(ready.last_transition_time.0);
            upstream.failing += 1;
        }
        let asked = status.conditions.iter().find(|condition| condition.type_ == UP_TO_DATE);
        if let Some(asked) = asked.filter(|asked| asked.status != "True") {
            note(asked.last_transition_time.0);
            *(if asked.status == "False" { &mut upstream.gone } else { &mut upstream.unasked }) += 1;
        }
    }
    let mut upstreams: Vec<_> = hosts.into_values().collect();
    upstreams.sort_by_key(|upstream| Reverse(upstream.images));
    upstreams
}

fn is_upstreams(reason: &str) -> bool {
    matches!(
        Reason::from_word(reason),
        Some(Reason::NotFound | Reason::Unauthorized | Reason::RateLimited | Reason::UpstreamUnreachable)
    )
}

#[cfg(test)]
mod tests;
