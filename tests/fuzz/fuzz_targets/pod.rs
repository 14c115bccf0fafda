//! A review is refused, or its pod gets a patch that applies; and the patched pod needs no other.
#![no_main]

use std::future::Future;
use std::sync::{Arc, LazyLock};

use cache_registry_core::{ContainerFacts, Decision, NodeAddress, PodFacts, Verdict};
use cache_registry_webhook::{Decide, explain};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// Caches everything.
struct Everything(NodeAddress);

impl Decide for Everything {
    fn decide(&self, _: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> impl Future<Output = Vec<Verdict>> + Send {
        let verdict = |container: ContainerFacts| Verdict {
            decision: Decision::Rewritten { image: self.0.of(&container.image), source: container.image },
            policy: None,
            cached_by: None,
            warnings: Vec::new(),
        };
        std::future::ready(containers.into_iter().map(verdict).collect())
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|pod: &[u8]| {
    let Ok(mut pod) = serde_json::from_slice::<Value>(pod) else { return };
    let decide = Everything(NodeAddress::default());
    let explained = |pod: &Value| {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "operation": "CREATE",
                "object": pod,
            },
        });
        RUNTIME.block_on(explain(&review.to_string(), &decide, &decide.0))
    };
    let Ok(first) = explained(&pod) else { return };
    json_patch::patch(&mut pod, &first.patch).expect("the patch applies");
    // The record is kept by name. A pod in which names are not unique is refused by the API server, whoever asks us.
    let mut names: Vec<_> = first.containers.iter().map(|container| &container.name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return;
    }
    let again = explained(&pod).expect("a patched pod is a pod");
    assert!(again.patch.is_empty(), "{:?}", again.patch);
});
