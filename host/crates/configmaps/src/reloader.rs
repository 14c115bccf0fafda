use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_policy::{Member, PolicyFailure, PolicySet};
use cache_registry_runtime::Handle;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube_runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::announcements::Announcements;
use crate::arrangement::{Arrangement, Seat};
use crate::follower::{Follower, PolicyRegistry, Report};
use crate::loader::Loader;
use crate::roster::{Outcome, Roster, Version};
use crate::{Refusal, ReloadableSet};

/// Keeps the set in force what the `ConfigMap`s say.
///
/// One task owns what is known, and every change passes through it in turn: what the watch brings, and what has become
/// of a version. Loading goes on beside it, by a [`Follower`] for each `ConfigMap`. What results is put in force at
/// once and whole; what cannot be loaded changes nothing. Dropped, it stops, and the set stays what it is.
pub(crate) struct Reloader<R> {
    set: ReloadableSet,
    registry: Arc<R>,
    image_interval: Duration,
    announcements: Announcements,
    loader: Loader,
    roster: Roster,
    /// Who is in the set that is in force.
    seats: Vec<Seat>,
    started: Timestamp,
    followers: JoinSet<()>,
    following: HashMap<String, AbortHandle>,
    reports: mpsc::Sender<Report>,
    /// What a listing that is going on has brought.
    listing: HashSet<String>,
    beginning: Beginning,
    /// Dropped when that is over.
    ready: Option<Handle>,
    hashing: RandomState,
    is_watching: bool,
}

/// Until what there is at the start is in force, nothing of it is: a set of half of the policies would be another one
/// than was asked for.
enum Beginning {
    /// Not everything is known.
    Listing,
    /// Not everything is loaded or refused. It is not waited for any longer than until then.
    Loading(Instant),
    Over,
}

/// How long the start waits for policies, whose registry may be slow or away.
const LONGEST_BEGINNING: Duration = Duration::from_secs(30);

/// How many reports may wait.
const REPORTS: usize = 16;

impl<R: PolicyRegistry> Reloader<R> {
    pub(crate) fn new(
        set: ReloadableSet,
        registry: R,
        image_interval: Duration,
        announcements: Announcements,
        ready: Handle,
    ) -> (Self, mpsc::Receiver<Report>) {
        let (reports, received) = mpsc::channel(REPORTS);
        let mut roster = Roster::new(&set.built_in);
        let reloader = Self {
            loader: Loader::new(set.engine.clone(), set.release.clone()),
            set,
            registry: Arc::new(registry),
            image_interval,
            announcements,
            seats: roster.arrange().seats,
            roster,
            started: Timestamp::now(),
            followers: JoinSet::new(),
            following: HashMap::new(),
            reports,
            listing: HashSet::new(),
            beginning: Beginning::Listing,
            ready: Some(ready),
            hashing: RandomState::new(),
            is_watching: true,
        };
        (reloader, received)
    }

    /// Works until it is dropped. It returns only when a task of its own panicked, which is a bug.
    pub(crate) async fn run(
        mut self,
        configmaps: impl Stream<Item = watcher::Result<Event<DeserializeGuard<ConfigMap>>>>,
        mut reports: mpsc::Receiver<Report>,
        mut failures: mpsc::Receiver<PolicyFailure>,
    ) -> JoinError {
        let mut configmaps = pin!(configmaps);
        let mut minutes = tokio::time::interval(Duration::from_secs(15));
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = if let Beginning::Loading(until) = self.beginning { Some(until) } else { None };
            tokio::select! {
                Some(event) = configmaps.next() => match event {
                    Ok(event) => self.changed(event),
                    Err(error) => self.watch_failed(&error),
                },
                Some(report) = reports.recv() => self.ended(report),
                Some(failure) = failures.recv() => {
                    self.announcements.failed(failure, &self.roster, &self.seats);
                    continue;
                }
                _ = minutes.tick() => {
                    self.announcements.tell_failures(&self.roster, &self.seats);
                    continue;
                }
                Some(Err(error)) = self.followers.join_next() => {
                    if error.is_panic() {
                        return error;
                    }
                    continue;
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            self.settle();
        }
    }

    fn changed(&mut self, event: Event<DeserializeGuard<ConfigMap>>) {
        if !std::mem::replace(&mut self.is_watching, true) {
            tracing::info!("the policies' ConfigMaps are watched again");
        }
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(configmap) => {
                self.listing.extend(metadata(&configmap).name.clone());
                self.declared(configmap);
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let known: Vec<_> = self.roster.entries().map(|(name, _)| name.to_owned()).collect();
                for name in known.iter().filter(|name| !listing.contains(*name)) {
                    self.removed(name);
                }
                if let Beginning::Listing = self.beginning {
                    self.beginning = Beginning::Loading(Instant::now() + LONGEST_BEGINNING);
                }
            }
            Event::Apply(configmap) => self.declared(configmap),
            Event::Delete(configmap) => self.removed(metadata(&configmap).name.as_deref().unwrap_or_default()),
        }
    }

    fn declared(&mut self, DeserializeGuard(configmap): DeserializeGuard<ConfigMap>) {
        let (metadata, content) = match &configmap {
            Ok(configmap) => (&configmap.metadata, self.content(configmap)),
            Err(invalid) => (&invalid.metadata, self.hashing.hash_one(&invalid.error)),
        };
        let version = Version {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            content,
        };
        let name = metadata.name.clone().unwrap_or_default();
        let Some(number) = self.roster.declared(&name, version) else { return };
        // Whatever is being done for the version before is in vain.
        if let Some(before) = self.following.remove(&name) {
            before.abort();
        }
        match configmap {
            Ok(configmap) => self.follow(name, number, configmap),
            Err(invalid) => {
                let refusal = Refusal::new("unreadable", format_args!("it cannot be read: {}", invalid.error));
                self.ended(Report { configmap: name, number, outcome: Outcome::Refused(refusal) });
            }
        }
    }

    fn follow(&mut self, name: String, number: u64, configmap: ConfigMap) {
        let newest = self.roster.entry(&name).and_then(|entry| entry.newest.as_ref());
        let pulled = newest.and_then(|loaded| loaded.pulled.clone());
        let follower = Follower {
            configmap: name.clone(),
            number,
            loader: self.loader.clone(),
            registry: Arc::clone(&self.registry),
            interval: self.image_interval,
            reports: self.reports.clone(),
        };
        self.following.insert(name, self.followers.spawn(follower.follow(configmap, pulled)));
    }

    fn removed(&mut self, name: &str) {
        if let Some(following) = self.following.remove(name) {
            following.abort();
        }
        self.roster.removed(name);
        tracing::info!(configmap = name, "a policy's ConfigMap is gone");
    }

    fn ended(&mut self, Report { configmap, number, outcome }: Report) {
        let counted = match &outcome {
            Outcome::Loaded(loaded) if loaded.policy.is_none() => Some("off"),
            Outcome::Loaded(_) => Some("loaded"),
            Outcome::Refused(refusal) => Some(refusal.reason()),
            Outcome::Unchanged => None,
        };
        if self.roster.ended(&configmap, number, outcome, Timestamp::now())
            && let Some(counted) = counted
        {
            self.set.metrics.reloaded(counted);
        }
    }

    /// Puts in force what is to be.
    fn settle(&mut self) {
        let mut arrangement = self.roster.arrange();
        if self.has_begun() {
            self.put_in_force(&arrangement);
        }
        arrangement.seats.clone_from(&self.seats);
        self.announcements.arranged(&self.roster, &arrangement);
        self.set.status.publish(&self.roster, &arrangement, self.started);
    }

    /// True from when all that there was at the start is known and has been loaded or refused, or has taken too long.
    fn has_begun(&self) -> bool {
        match &self.beginning {
            Beginning::Over => true,
            Beginning::Listing => false,
            Beginning::Loading(_) if self.roster.is_settled() => true,
            Beginning::Loading(until) => {
                let is_late = Instant::now() >= *until;
                if is_late {
                    tracing::warn!("policies that are still being loaded come later; the others are in force");
                }
                is_late
            }
        }
    }

    fn put_in_force(&mut self, Arrangement { seats, .. }: &Arrangement) {
        let is_same = |(one, other): (&Seat, &Seat)| one.is_same_member(other);
        if seats.len() != self.seats.len() || !seats.iter().zip(&self.seats).all(is_same) {
            let members: Vec<Member> = seats.iter().map(Seat::member).collect();
            match PolicySet::new(self.set.engine.clone(), members, self.set.observer.clone()) {
                Ok(set) => {
                    self.set.policies.replace(set);
                    self.set.metrics.swapped();
                    let names: Vec<_> = seats.iter().map(|seat| seat.name.as_str()).collect();
                    tracing::info!(policies = names.join(", "), "this set is in force");
                }
                Err(error) => {
                    tracing::error!(%error, "the set stays what it is, by a fault of cache-registry");
                    return;
                }
            }
        }
        self.seats.clone_from(seats);
        self.beginning = Beginning::Over;
        self.ready = None;
    }

    fn watch_failed(&mut self, error: &watcher::Error) {
        self.set.metrics.watch_failed();
        if std::mem::replace(&mut self.is_watching, false) {
            tracing::warn!(
                %error,
                "the set stays what it is until the API server answers again; may this ServiceAccount list and watch ConfigMaps?"
            );
        } else {
            tracing::debug!(%error, "the policies' ConfigMaps are still not watched");
        }
    }

    /// A hash of what a policy is made of, which only this process compares.
    fn content(&self, configmap: &ConfigMap) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        let texts = configmap.data.iter().flatten().map(|(key, text)| (key, text.as_bytes()));
        let binaries = configmap.binary_data.iter().flatten().map(|(key, bytes)| (key, bytes.0.as_slice()));
        for (is_binary, (key, value)) in texts.map(|entry| (0, entry)).chain(binaries.map(|entry| (1, entry))) {
            hasher.write_u8(is_binary);
            for part in [key.as_bytes(), value] {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
        }
        hasher.finish()
    }
}

fn metadata(DeserializeGuard(configmap): &DeserializeGuard<ConfigMap>) -> &ObjectMeta {
    match configmap {
        Ok(configmap) => &configmap.metadata,
        Err(invalid) => &invalid.metadata,
    }
}

#[cfg(test)]
mod tests;
