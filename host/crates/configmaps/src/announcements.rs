use std::collections::HashMap;

use cache_registry_policy::{OnError, PolicyFailure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

use crate::arrangement::{Arrangement, Loaded, Seat};
use crate::events::{Announcer, News, Notice};
use crate::failures::{Failures, Told};
use crate::roster::{Entry, Roster};

/// What is told by Events and by the log: each thing once.
pub(crate) struct Announcements {
    announcer: Announcer,
    namespace: String,
    /// The pod, where it is known.
    pod: Option<String>,
    told: HashMap<String, Known>,
    failures: Failures,
}

/// What was told of a `ConfigMap` last.
#[derive(Debug, Default)]
struct Known {
    /// The version, and the digest of its image.
    loaded: Option<(u64, Option<String>)>,
    /// The version, and what kind of refusal.
    refused: Option<(u64, &'static str)>,
}

impl Announcements {
    /// `pod` is what failures of built-in policies are told about, which no `ConfigMap` is to blame for.
    pub(crate) fn new(announcer: Announcer, namespace: &str, pod: Option<String>) -> Self {
        let namespace = namespace.to_owned();
        Self { announcer, namespace, pod, told: HashMap::new(), failures: Failures::default() }
    }

    /// Tells what is new in the set, and what is not in it.
    pub(crate) fn arranged(&mut self, roster: &Roster, arrangement: &Arrangement) {
        self.told.retain(|name, _| roster.entry(name).is_some());
        let seats: HashMap<&str, &Seat> = arrangement
            .seats
            .iter()
            .filter_map(|seat| Some((seat.loaded.as_ref()?.configmap.as_str(), seat)))
            .collect();
        for (name, entry) in roster.entries() {
            let seat = seats.get(name).copied();
            if let Some((seat, loaded)) = seat.and_then(|seat| Some((seat, seat.loaded.as_deref()?))) {
                self.loaded(name, entry, seat, loaded);
            }
            self.refused(name, entry, arrangement, seat.is_some());
        }
    }

    fn loaded(&mut self, name: &str, entry: &Entry, seat: &Seat, loaded: &Loaded) {
        let digest = loaded.pulled.as_ref().map(|pulled| pulled.digest.clone());
        let version = Some((loaded.number, digest.clone()));
        let known = self.told.entry(name.to_owned()).or_default();
        if known.loaded == version {
            return;
        }
        known.loaded = version;
        let policy = seat.policy.name();
        let component = seat.policy.component().digest();
        let image = digest.as_ref().map(|digest| format!(" of image {digest}")).unwrap_or_default();
        let note =
            format!("policy {policy} is in force, with priority {}: component {component}{image}", seat.priority);
        tracing::info!(configmap = name, policy, priority = seat.priority, %component, "a policy is in force");
        let occasion = format!("{} {}", entry.version.resource_version, digest.unwrap_or_default());
        let regarding = self.configmap(name, entry);
        self.announcer.tell(Notice { regarding, news: News::Loaded, occasion, note });
    }

    fn refused(&mut self, name: &str, entry: &Entry, arrangement: &Arrangement, is_seated: bool) {
        // What was refused was the version before.
        if entry.pending {
            return;
        }
        let refused = entry.refused(name, arrangement);
        let known = self.told.entry(name.to_owned()).or_default();
        let Some(refusal) = refused.map(|refused| refused.refusal) else {
            known.refused = None;
            return;
        };
        let version = Some((entry.number, refusal.reason()));
        if known.refused == version {
            return;
        }
        known.refused = version;
        tracing::warn!(configmap = name, reason = refusal.reason(), %refusal, is_seated, "a policy is refused");
        let rest =
            if is_seated { "The last version that was right stays in force" } else { "No version of it is in force" };
        let note = format!("{}. {rest}.", refusal.to_string().trim_end_matches('.'));
        let occasion = format!("{} {}", entry.version.resource_version, refusal.reason());
        let regarding = self.configmap(name, entry);
        self.announcer.tell(Notice { regarding, news: News::Refused, occasion, note });
    }

    /// Tells of a failure, now or later.
    pub(crate) fn failed(&mut self, failure: PolicyFailure, roster: &Roster, seats: &[Seat]) {
        if let Some(told) = self.failures.heard(failure, minute()) {
            self.tell_failure(&told, roster, seats);
        }
    }

    /// Tells of the failures that had to wait.
    pub(crate) fn tell_failures(&mut self, roster: &Roster, seats: &[Seat]) {
        for told in self.failures.due(minute()) {
            self.tell_failure(&told, roster, seats);
        }
    }

    fn tell_failure(&self, Told { failure, count, minute }: &Told, roster: &Roster, seats: &[Seat]) {
        // One that has left the set meanwhile has nobody who would mend it.
        let Some(seat) = seats.iter().find(|seat| seat.name == failure.policy) else { return };
        let regarding = match &seat.loaded {
            Some(loaded) => roster.entry(&loaded.configmap).map(|entry| self.configmap(&loaded.configmap, entry)),
            None => self.pod.as_deref().map(|pod| self.object("Pod", pod)),
        };
        let Some(regarding) = regarding else { return };
        let rest = match seat.on_error {
            OnError::Leave => "the image was left as it is",
            OnError::Pass => "the next policy was asked",
        };
        let often =
            if *count > 1 { format!(" It failed so {count} times since this was told last.") } else { String::new() };
        let note = format!(
            "{}. It was asked about a pod in the namespace {}, and {rest}.{often}",
            failure.words.trim_end_matches('.'),
            failure.namespace,
        );
        let occasion = format!("{} {} {minute}", failure.policy, failure.cause);
        self.announcer.tell(Notice { regarding, news: News::Failed, occasion, note });
    }

    fn configmap(&self, name: &str, entry: &Entry) -> ObjectReference {
        ObjectReference { uid: Some(entry.version.uid.clone()), ..self.object("ConfigMap", name) }
    }

    fn object(&self, kind: &str, name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectReference::default()
        }
    }
}

fn minute() -> i64 {
    Timestamp::now().as_second() / 60
}
