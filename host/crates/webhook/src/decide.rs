use std::future::Future;
use std::sync::Arc;

use cache_registry_core::{ContainerFacts, PodFacts, Verdict};
use cache_registry_policy::Policies;

/// Who decides on images: the policies, or whatever a test or a measurement puts in their place.
pub trait Decide: Send + Sync + 'static {
    /// One verdict for each container, in their order. It never fails: where a policy does, the verdict is to leave
    /// the image alone, with a warning. It takes a bounded time.
    fn decide(&self, pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> impl Future<Output = Vec<Verdict>> + Send;
}

impl Decide for Policies {
    async fn decide(&self, pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        // Their own method, which takes precedence over this one.
        Self::decide(self, pod, containers).await
    }
}
