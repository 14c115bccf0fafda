use std::sync::Arc;

use cache_registry_policy::built_in::{self, ReleaseSettings};
use cache_registry_policy::{
    Engine, LoadError, Member, Observer, Policies, Policy, PolicyFailure, PolicySet, TooManyPolicies,
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::Status;
use crate::metrics::Metrics;

/// The set in force, and what it takes to replace it. At first it is the built-in policies.
#[derive(Debug)]
pub struct ReloadableSet {
    pub(crate) engine: Engine,
    pub(crate) release: ReleaseSettings,
    pub(crate) policies: Policies,
    pub(crate) built_in: Vec<Arc<Policy>>,
    pub(crate) observer: Observer,
    pub(crate) failures: Option<mpsc::Receiver<PolicyFailure>>,
    pub(crate) metrics: Metrics,
    pub(crate) status: Status,
}

/// The built-in policies are not as they should be, or not set as they can be.
#[derive(Debug, thiserror::Error)]
pub enum NoSet {
    /// One of them was not loaded.
    #[error("a built-in policy: {0}")]
    Load(#[from] LoadError),
    /// There is no place for all of them.
    #[error(transparent)]
    TooMany(#[from] TooManyPolicies),
}

/// How many failures may wait to be told. They are summed up anyhow.
const FAILURES: usize = 64;

impl ReloadableSet {
    /// Loads the built-in policies, and registers the metrics of policies and of their `ConfigMap`s. An error is about what
    /// `release` has to say.
    pub fn built_in(engine: Engine, release: ReleaseSettings, metrics: &mut Registry) -> Result<Self, NoSet> {
        let (sender, failures) = mpsc::channel(FAILURES);
        let observer = Observer { metrics: cache_registry_policy::Metrics::register(metrics), failures: Some(sender) };
        let built_in = Vec::from(built_in::load_for(&engine, &release)?);
        let members = built_in.iter().cloned().map(Member::from).collect();
        let set = PolicySet::new(engine.clone(), members, observer.clone())?;
        let status = Status::new();
        let metrics = Metrics::register(metrics, &status);
        let (policies, failures) = (Policies::new(set), Some(failures));
        Ok(Self { engine, release, policies, built_in, observer, failures, metrics, status })
    }

    /// The set in force: who decides.
    pub fn policies(&self) -> Policies {
        self.policies.clone()
    }

    /// What stands in `/policies`.
    pub fn status(&self) -> Status {
        self.status.clone()
    }
}
