use std::time::SystemTime;

use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Who hears of what policies do.
#[derive(Debug, Clone)]
pub struct Observer {
    /// What is counted.
    pub metrics: Metrics,
    /// Where failures are told one by one. Where the channel is full they are dropped: the metric counts all.
    pub failures: Option<mpsc::Sender<PolicyFailure>>,
}

/// A policy gave no usable answer. There is one for each request, policy and cause, however many containers it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFailure {
    /// The policy's name.
    pub policy: String,
    /// One of a closed set of words, the label of the metric.
    pub cause: &'static str,
    /// What happened, for a person. It names the policy.
    pub words: String,
    /// The namespace of the pod that it was asked about.
    pub namespace: String,
    /// When.
    pub at: SystemTime,
}

impl Observer {
    pub(crate) fn hear(&self, failure: PolicyFailure) {
        if let Some(failures) = &self.failures {
            // Full, or nobody listens any more.
            let _ = failures.try_send(failure);
        }
    }
}

impl From<Metrics> for Observer {
    /// One that only counts.
    fn from(metrics: Metrics) -> Self {
        Self { metrics, failures: None }
    }
}
