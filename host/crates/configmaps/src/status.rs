use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::response::Json;
use axum::routing::get;
use cache_registry_api::policy_keys::{LEAVE, PASS};
use cache_registry_policy::{OnError, Policy};
use jiff::Timestamp;
use serde::Serialize;

use crate::arrangement::{Arrangement, Loaded, Seat};
use crate::roster::{Entry, Refused, Roster};

/// What stands in `/policies`: the set in its order, and after it what is not in it. A handle.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<ArcSwap<Vec<Row>>>);

/// A policy, or a `ConfigMap` that has none in force.
#[derive(Debug)]
struct Row {
    name: String,
    state: State,
    seat: Option<Seat>,
    /// What the `ConfigMap` is about, where a version of it was loaded.
    loaded: Option<Arc<Loaded>>,
    configmap: Option<String>,
    loaded_at: Option<Timestamp>,
    refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    InForce,
    /// There is no version in force, and the newest is refused.
    Refused,
    /// There is no version in force, and the newest is on its way.
    Loading,
    /// Its `ConfigMap` says so.
    Off,
}

/// A row as people and programs read it. Settings are not in it: they may be secret.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    state: State,
    origin: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    policy: Option<ShownPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ShownImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded_at: Option<String>,
    /// Why something newer is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ShownError>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownPolicy {
    priority: i32,
    on_error: &'static str,
    /// Of the component.
    digest: String,
    filters: bool,
    rewrites: bool,
    failing: bool,
    failures_in_a_row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<ShownFailure>,
}

#[derive(Debug, Serialize)]
struct ShownFailure {
    cause: &'static str,
    message: String,
    /// Of the pod.
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownImage {
    reference: String,
    digest: String,
}

#[derive(Debug, Serialize)]
struct ShownError {
    reason: &'static str,
    message: String,
    at: String,
}

impl Status {
    /// Of no policy yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `GET /policies`.
    pub fn router(&self) -> Router {
        let status = self.clone();
        Router::new().route("/policies", get(async move || Json(status.shown())))
    }

    /// What `/policies` answers.
    fn shown(&self) -> Vec<Shown> {
        self.0.load().iter().map(Row::shown).collect()
    }

    /// How many policies there are, by state. A policy that fails is in force as well.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 4] {
        let rows = self.0.load();
        let count = |of: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| of(row)).count() as u64;
        [
            ("in-force", count(&|row| row.state == State::InForce)),
            ("failing", count(&|row| row.seat.as_ref().is_some_and(|seat| seat.policy.health().failing()))),
            ("refused", count(&|row| row.refused.is_some())),
            ("loading", count(&|row| row.state == State::Loading)),
        ]
    }

    /// Shows what is known now. `since` is when the built-in policies were loaded.
    pub(crate) fn publish(&self, roster: &Roster, arrangement: &Arrangement, since: Timestamp) {
        let seated: HashSet<&str> =
            arrangement.seats.iter().filter_map(|seat| Some(seat.loaded.as_ref()?.configmap.as_str())).collect();
        let in_force = arrangement.seats.iter().map(|seat| {
            let configmap = seat.loaded.as_ref().map(|loaded| loaded.configmap.clone());
            let entry = configmap.as_deref().and_then(|name| Some((name, roster.entry(name)?)));
            Row {
                name: seat.name.clone(),
                state: State::InForce,
                seat: Some(seat.clone()),
                loaded: seat.loaded.clone(),
                loaded_at: Some(seat.loaded.as_ref().map_or(since, |loaded| loaded.at)),
                refused: entry.and_then(|(name, entry)| entry.refused(name, arrangement)),
                configmap,
            }
        });
        let others = roster.entries().filter(|(name, _)| !seated.contains(name));
        let rows = in_force.chain(others.map(|(name, entry)| Row::without_seat(name, entry, arrangement)));
        self.0.store(Arc::new(rows.collect()));
    }
}

impl Row {
    fn without_seat(configmap: &str, entry: &Entry, arrangement: &Arrangement) -> Self {
        let refused = entry.refused(configmap, arrangement);
        let loaded = entry.newest.clone();
        let state = match (&loaded, &refused) {
            (Some(loaded), _) if loaded.policy.is_none() => State::Off,
            (_, Some(_)) => State::Refused,
            _ => State::Loading,
        };
        Self {
            name: loaded.as_ref().map_or(configmap, |loaded| &loaded.name).to_owned(),
            state,
            seat: None,
            loaded,
            configmap: Some(configmap.to_owned()),
            loaded_at: None,
            refused,
        }
    }

    fn shown(&self) -> Shown {
        let image = self.loaded.as_ref().and_then(|loaded| loaded.pulled.as_ref());
        Shown {
            name: self.name.clone(),
            state: self.state,
            origin: self.configmap.as_ref().map_or("built-in".to_owned(), |name| format!("configmap/{name}")),
            policy: self.seat.as_ref().map(|seat| ShownPolicy::of(seat, &seat.policy)),
            image: image
                .map(|pulled| ShownImage { reference: pulled.reference.clone(), digest: pulled.digest.clone() }),
            loaded_at: self.loaded_at.map(seconds),
            last_error: self.refused.as_ref().map(|refused| ShownError {
                reason: refused.refusal.reason(),
                message: refused.refusal.to_string(),
                at: seconds(refused.at),
            }),
        }
    }
}

impl ShownPolicy {
    fn of(seat: &Seat, policy: &Policy) -> Self {
        let health = policy.health();
        Self {
            priority: seat.priority,
            on_error: match seat.on_error {
                OnError::Leave => LEAVE,
                OnError::Pass => PASS,
            },
            digest: policy.component().digest().to_string(),
            filters: policy.filters(),
            rewrites: policy.rewrites(),
            failing: health.failing(),
            failures_in_a_row: health.failures_in_a_row,
            last_failure: health.last_failure.map(|failure| ShownFailure {
                cause: failure.cause,
                message: failure.words,
                namespace: failure.namespace,
                at: Timestamp::try_from(failure.at).ok().map(seconds),
            }),
        }
    }
}

/// As Kubernetes writes a time.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
