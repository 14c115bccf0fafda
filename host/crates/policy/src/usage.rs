use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_registry_core::{ContainerFacts, PodFacts};

use crate::allowance::Allowance;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::instance::Instance;
use crate::lane::to_its_end;
use crate::load::Policy;
use crate::log::Log;

/// What a policy takes for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Until there is an instance that can be asked.
    pub start: Duration,
    /// Until everything is answered and nothing is left of the instance.
    pub request: Duration,
    /// Bytes of memory that the instance had at its end, when it has most: it cannot give any back.
    pub memory: usize,
}

impl Engine {
    /// Asks a policy everything that it can be asked about a pod, as a request does but on this thread, and measures
    /// what it takes. The error is a policy's that fails, in words that go on where its name ends.
    pub fn usage(&self, policy: &Policy, pod: &Arc<PodFacts>, containers: &[ContainerFacts]) -> Result<Usage, String> {
        let began = Instant::now();
        let log = Arc::new(Log::of(policy.identity.clone()));
        let asked = async {
            let allowance = Allowance::unhurried(self.limits());
            let mut instance = Instance::new(self, policy, pod.clone(), log.clone(), allowance).await?;
            let start = began.elapsed();
            let exports = policy.component.asked();
            for container in containers {
                if let Some(export) = &exports.filter {
                    instance.filter(export, container).await?;
                }
            }
            for container in containers {
                if let Some(export) = &exports.rewrite {
                    // An error of its own is an answer, which takes its time.
                    let _ = instance.rewrite(export, container).await?;
                }
            }
            wasmtime::Result::Ok((start, instance.memory()))
        };
        let (start, memory) =
            to_its_end(asked).map_err(|error| Failure::of(&error, self.limits().time, &log).to_string())?;
        Ok(Usage { start, request: began.elapsed(), memory })
    }
}
