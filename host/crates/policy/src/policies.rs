use std::sync::Arc;

use arc_swap::ArcSwap;
use cache_registry_core::{ContainerFacts, PodFacts, Verdict};

use crate::set::PolicySet;

/// The set in force, which can be replaced while it decides. A handle: clones share it.
#[derive(Debug, Clone)]
pub struct Policies(Arc<ArcSwap<PolicySet>>);

impl Policies {
    /// Puts `set` in force.
    pub fn new(set: PolicySet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(set)))
    }

    /// Puts `set` in the place of the one in force. Requests that are being decided on end under the one that they
    /// began with; what was counted of policies that are gone is forgotten.
    pub fn replace(&self, set: PolicySet) {
        let set = Arc::new(set);
        let before = self.0.swap(Arc::clone(&set));
        set.forget_those_only_in(&before);
    }

    /// The set in force.
    pub fn current(&self) -> Arc<PolicySet> {
        self.0.load_full()
    }

    /// The verdict on each container, in the order of `containers`: all of them by the set that is in force now.
    ///
    /// See [`PolicySet::decide`].
    pub async fn decide(&self, pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        self.current().decide(pod, containers).await
    }
}
