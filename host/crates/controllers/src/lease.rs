//! One leader, by a `coordination.k8s.io/v1` Lease (<https://kubernetes.io/docs/concepts/architecture/leases/>).
//!
//! ```text
//!            free, or not renewed for its duration          every `renew`
//! acquire ─────────────────────────────────────▶ keep ──────────────────────┐
//!    ▲                                            │ ▲                       │
//!    │   taken by another, or not renewed for     │ └───────────────────────┘
//!    └────── `give_up`: the work has stopped ◀────┘
//! ```
//!
//! Whoever writes says which resourceVersion it saw, so of two that reach for a free Lease one gets a conflict. A
//! replica measures with its own clock how long it has seen no change, so clocks need not agree. A holder that cannot
//! renew stops its work before anyone else may take the Lease over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{FIELD_MANAGER, created_by_us};

/// The times of a [`Leadership`]; each must be well below the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// A Lease that was not renewed for this long is free.
    pub(crate) duration: Duration,
    /// A holder that could not renew for this long is the holder no more.
    pub(crate) give_up: Duration,
    /// Between two renewals.
    pub(crate) renew: Duration,
    /// Between two attempts, to acquire or after a failure.
    pub(crate) retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            give_up: Duration::from_secs(10),
            renew: Duration::from_secs(5),
            retry: Duration::from_secs(2),
        }
    }
}

/// A replica's part in the election.
pub(crate) struct Leadership {
    leases: Api<Lease>,
    name: String,
    me: String,
    times: Times,
    seen: Option<Seen>,
    acquired: Timestamp,
}

/// A state of the Lease, and when this replica first saw it.
#[derive(Debug, Clone)]
struct Seen {
    resource_version: String,
    transitions: i32,
    holder: String,
    free_at: Instant,
}

/// What a replica that does not hold the Lease does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Wait,
}

impl Leadership {
    /// A candidate for the Lease `name`. `me` must be no other's: two of one identity would both lead.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, me: String, times: Times) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me,
            times,
            seen: None,
            acquired: Timestamp::now(),
        }
    }

    /// Returns when this replica holds the Lease. `reached` is called whenever the API server has answered.
    pub(crate) async fn acquire(&mut self, mut reached: impl FnMut()) {
        let mut told = String::new();
        loop {
            match self.attempt().await {
                Ok(true) => {
                    tracing::info!(lease = self.name, identity = self.me, "the Lease is ours");
                    reached();
                    return;
                }
                Ok(false) => {
                    reached();
                    let holder = self.seen.as_ref().map(|seen| seen.holder.clone()).unwrap_or_default();
                    if told != holder {
                        tracing::info!(lease = self.name, holder, "standing by: another holds the Lease");
                        told = holder;
                    }
                }
                Err(error) => {
                    let lease = &self.name;
                    tracing::warn!(lease, %error, "the Lease can't be read or taken; trying on. Is the API server up, and may this ServiceAccount get, create and patch Leases here?");
                }
            }
            sleep(self.times.retry.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Who held the Lease when it was last looked at, where it was not this one.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.holder.as_str()).filter(|holder| !holder.is_empty() && *holder != self.me)
    }

    /// Keeps the Lease; returns when it is lost.
    pub(crate) async fn keep(&mut self) {
        let mut renewed = Instant::now();
        let mut pause = self.times.renew;
        loop {
            sleep(pause).await;
            let began = Instant::now();
            match timeout_at(renewed + self.times.give_up, self.renew()).await {
                Ok(Ok(true)) => {
                    renewed = began;
                    pause = self.times.renew;
                }
                Ok(Ok(false)) => {
                    let holder = self.seen.as_ref().map(|seen| seen.holder.as_str());
                    tracing::warn!(lease = self.name, holder, "another replica has taken the Lease over");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.name, %error, "the Lease can't be renewed; trying on");
                    pause = self.times.retry.min((renewed + self.times.give_up).saturating_duration_since(began));
                }
                Err(_) => {
                    tracing::error!(lease = self.name, "the Lease could not be renewed in time: leading no more");
                    return;
                }
            }
        }
    }

    /// Gives the Lease up, so that another replica leads at once. Should it fail, the Lease runs out by itself.
    pub(crate) async fn release(mut self) {
        let Some(seen) = self.seen.take().filter(|seen| seen.holder == self.me) else { return };
        let lease = self.lease(
            &seen.resource_version,
            LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                renew_time: Some(MicroTime(Timestamp::now())),
                lease_transitions: Some(seen.transitions),
                ..LeaseSpec::default()
            },
        );
        match self.apply(&lease).await {
            Ok(_) => tracing::info!(lease = self.name, "the Lease is released"),
            Err(error) => tracing::warn!(lease = self.name, %error, "the Lease could not be released: it runs out"),
        }
    }

    /// Reads the Lease and takes it where it is free.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let lease = bounded(self.leases.get_opt(&self.name)).await?;
        self.observe(lease.as_ref());
        self.acquired = Timestamp::now();
        let spec = self.held(self.seen.as_ref().map_or(0, |seen| seen.transitions.saturating_add(1)));
        let taken = match step(self.seen.as_ref(), Instant::now()) {
            Step::Wait => return Ok(false),
            Step::Create => {
                let mut lease = self.lease("", spec);
                lease.metadata.resource_version = None;
                bounded(self.leases.create(&created_by_us(), &lease)).await
            }
            Step::Take => {
                let seen = self.seen.as_ref().map(|seen| seen.resource_version.clone()).unwrap_or_default();
                self.apply(&self.lease(&seen, spec)).await
            }
        };
        self.taken(taken)
    }

    /// Writes the time anew.
    async fn renew(&mut self) -> Result<bool, kube::Error> {
        let Some(seen) = self.seen.clone() else { return Ok(false) };
        let spec = self.held(seen.transitions);
        let mut written = self.apply(&self.lease(&seen.resource_version, spec.clone())).await;
        if is_conflict(&written) {
            // Someone wrote something: a label, say, which is none of our business, or their name.
            let lease = bounded(self.leases.get_opt(&self.name)).await?;
            self.observe(lease.as_ref());
            match self.seen.clone() {
                Some(now) if now.holder == self.me => {
                    written = self.apply(&self.lease(&now.resource_version, spec)).await;
                }
                _ => return Ok(false),
            }
        }
        self.taken(written)
    }

    /// Notes the outcome of a write. A conflict is no error: another replica was faster.
    fn taken(&mut self, written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
        match written {
            Ok(lease) => {
                self.observe(Some(&lease));
                Ok(self.seen.as_ref().is_some_and(|seen| seen.holder == self.me))
            }
            written if is_conflict(&written) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes a state of the Lease. The time from which it is free counts from when the state was first seen.
    fn observe(&mut self, lease: Option<&Lease>) {
        let Some(lease) = lease else {
            self.seen = None;
            return;
        };
        let resource_version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_some_and(|seen| seen.resource_version == resource_version) {
            return;
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = duration.map_or(self.times.duration, Duration::from_secs);
        let holder = spec.holder_identity.unwrap_or_default();
        let free_at = if holder.is_empty() { Instant::now() } else { Instant::now() + duration };
        let transitions = spec.lease_transitions.unwrap_or_default();
        self.seen = Some(Seen { resource_version, transitions, holder, free_at });
    }

    /// Every field, at every renewal: what one manager leaves out of an apply is removed.
    fn held(&self, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(i32::try_from(self.times.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: Some(MicroTime(self.acquired)),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    fn lease(&self, resource_version: &str, spec: LeaseSpec) -> Lease {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            resource_version: Some(resource_version.to_owned()),
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Server-side apply. With a resourceVersion in it, the API server refuses it when the Lease has changed since.
    async fn apply(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        let by = PatchParams::apply(FIELD_MANAGER).force();
        bounded(self.leases.patch(&self.name, &by, &Patch::Apply(lease))).await
    }
}

fn step(seen: Option<&Seen>, now: Instant) -> Step {
    match seen {
        None => Step::Create,
        Some(seen) if seen.free_at <= now => Step::Take,
        Some(_) => Step::Wait,
    }
}

fn is_conflict<T>(result: &Result<T, kube::Error>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 409)
}

/// Bounds a call to the API server.
pub(crate) async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    const LONGEST_CALL: Duration = Duration::from_secs(10);
    let late = |_| kube::Error::Service(format!("no answer within {} s", LONGEST_CALL.as_secs()).into());
    timeout(LONGEST_CALL, call).await.map_err(late)?
}

#[cfg(test)]
mod tests;
