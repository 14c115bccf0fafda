use std::sync::Arc;

use cache_registry_core::{PodFacts, Reference};
use wasmtime::component::Resource;

use crate::bindings::{host, types};
use crate::engine::Engine;
use crate::load::Identity;
use crate::log::Log;
use crate::memory::Memory;
use crate::wasi::Wasi;

/// What one instance has of the host: the other side of every function that a policy can call.
pub(crate) struct Host {
    pub(crate) memory: Memory,
    engine: Engine,
    policy: Arc<Identity>,
    pod: Arc<PodFacts>,
    log: Arc<Log>,
    /// Made for the first call into it.
    wasi: Option<Box<Wasi>>,
}

/// The pod under review. There is one in an instance, [`Host`] has it, and handles need not tell which they mean.
#[allow(unreachable_pub, reason = "the generated code exports it")]
pub struct Pod;

impl Pod {
    pub(crate) fn handle() -> Resource<Pod> {
        Resource::new_borrow(0)
    }
}

impl Host {
    pub(crate) fn new(
        engine: Engine,
        memory: Memory,
        policy: Arc<Identity>,
        pod: Arc<PodFacts>,
        log: Arc<Log>,
    ) -> Self {
        Self { memory, engine, policy, pod, log, wasi: None }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        self.wasi.get_or_insert_with(|| Box::new(Wasi::new(self.log.clone())))
    }
}

impl host::Host for Host {
    fn log(&mut self, level: host::Level, message: String) {
        self.log.say(level, &message);
    }

    fn settings(&mut self) -> String {
        self.policy.settings.clone()
    }

    fn own_registries(&mut self) -> Vec<String> {
        self.engine.own_registries().to_vec()
    }

    fn node_registry(&mut self) -> String {
        self.engine.node_address().authority().to_owned()
    }

    fn node_address(&mut self, source: String) -> Result<String, String> {
        let source: Reference = source.parse().map_err(|error| format!("{error}"))?;
        Ok(self.engine.node_address().of(&source).to_string())
    }
}

impl types::Host for Host {}

impl types::HostPod for Host {
    fn namespace(&mut self, _: Resource<Pod>) -> String {
        self.pod.namespace.clone()
    }

    fn name(&mut self, _: Resource<Pod>) -> Option<String> {
        self.pod.name.clone()
    }

    fn label(&mut self, _: Resource<Pod>, key: String) -> Option<String> {
        self.pod.labels.get(&key).cloned()
    }

    fn labels(&mut self, _: Resource<Pod>) -> Vec<(String, String)> {
        self.pod.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn annotation(&mut self, _: Resource<Pod>, key: String) -> Option<String> {
        self.pod.annotations.get(&key).cloned()
    }

    fn service_account(&mut self, _: Resource<Pod>) -> String {
        self.pod.service_account.clone()
    }

    fn owner(&mut self, _: Resource<Pod>) -> Option<types::Owner> {
        let owner = self.pod.owner.as_ref()?;
        Some(types::Owner {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        })
    }

    fn json(&mut self, _: Resource<Pod>) -> String {
        self.pod.json.to_string()
    }

    fn drop(&mut self, _: Resource<Pod>) -> wasmtime::Result<()> {
        Ok(())
    }
}
