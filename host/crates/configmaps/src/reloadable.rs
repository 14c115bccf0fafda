use std::sync::Arc;

use cache_registry_policy::built_in::ReleaseSettings;
use cache_registry_policy::{Engine, LoadError, Observer, Policies, Policy, PolicyFailure, PolicySet};
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

/// How many failures may wait to be told. They are summed up anyhow.
const FAILURES: usize = 64;

impl ReloadableSet {
    /// Loads the built-in policies, and registers the metrics of policies and of their `ConfigMap`s. An error is about what
    /// `release` has to say.
    pub fn built_in(engine: Engine, release: ReleaseSettings, metrics: &mut Registry) -> Result<Self, LoadError> {
        let (sender, failures) = mpsc::channel(FAILURES);
        let observer = Observer { metrics: cache_registry_policy::Metrics::register(metrics), failures: Some(sender) };
        let set = PolicySet::built_in(engine.clone(), &release, observer.clone())?;
        let built_in = set.members().map(|member| Arc::clone(&member.policy)).collect();
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
