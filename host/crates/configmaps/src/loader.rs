use std::sync::Arc;

use bytes::Bytes;
use cache_registry_policy::built_in::{self, ReleaseSettings};
use cache_registry_policy::{Component, Engine, Policy};
use tokio::sync::Semaphore;
use tokio::task;

use crate::{Refusal, decompress};

/// Decompresses, compiles and checks, on threads that may block. A handle.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    engine: Engine,
    release: ReleaseSettings,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// The code of a policy.
#[derive(Clone)]
pub(crate) enum Code {
    /// A component, which may be compressed.
    Bytes(Bytes),
    /// The built-in policy of this name.
    BuiltIn(&'static str),
    /// A component that was compiled before.
    Component(Component),
}

/// What a `ConfigMap` can hold is small; registries have interpreters of many megabytes.
const SMALL: usize = 1 << 20;

/// How many small and how many large components are in memory to be compiled. The large ones wait apart, because they
/// take long.
const SMALL_AT_ONCE: usize = 16;
const LARGE_AT_ONCE: usize = 2;

impl Loader {
    pub(crate) fn new(engine: Engine, release: ReleaseSettings) -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Self { engine, release, small: turns(SMALL_AT_ONCE), large: turns(LARGE_AT_ONCE) }
    }

    /// Makes a policy. Dropped before it is its turn, it does nothing.
    pub(crate) async fn load(&self, name: &str, code: Code, settings: &str) -> Result<Arc<Policy>, Refusal> {
        let turn = match &code {
            Code::Bytes(bytes) => {
                let turns = if bytes.len() > SMALL { &self.large } else { &self.small };
                Some(Arc::clone(turns).acquire_owned().await)
            }
            // There is nothing to compile.
            Code::BuiltIn(_) | Code::Component(_) => None,
        };
        let settings = match &code {
            Code::BuiltIn(name) => self.release.with(name, settings),
            Code::Bytes(_) | Code::Component(_) => settings.to_owned(),
        };
        let (engine, name) = (self.engine.clone(), name.to_owned());
        off_the_request_path(move || {
            // Until it is done, which may be after whoever asked for it has lost interest.
            let _turn = turn;
            let component = match code {
                Code::Component(component) => component,
                Code::Bytes(bytes) => engine.compile(&decompress(bytes)?)?,
                Code::BuiltIn(name) => engine.compile(built_in::wasm(name).unwrap_or_default())?,
            };
            Ok(Arc::new(engine.load(&name, &component, &settings)?))
        })
        .await
    }
}

/// Does work that takes long, or that may be made to take long.
pub(crate) async fn off_the_request_path<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a policy is refused by a fault of cache-registry");
        Err(Refusal::new("fault", "cache-registry failed at it, which is a fault of its own: see its log"))
    })
}
