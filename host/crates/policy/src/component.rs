use std::fmt;
use std::sync::Arc;

use cache_registry_core::Digest;
use wasmtime::component::{Component as Code, InstancePre};

use crate::engine::Engine;
use crate::host::Host;
use crate::load::{Exports, LoadError, in_words};
use crate::survey::Survey;

/// A component that was compiled and linked, from which policies are loaded. A handle: clones share the code.
#[derive(Clone)]
pub struct Component(Arc<Compiled>);

pub(crate) struct Compiled {
    digest: Digest,
    size: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    asked: Exports,
    linked: InstancePre<Host>,
}

impl Compiled {
    /// Gives a component's code what it imports, and finds what it can be asked.
    pub(crate) fn link(
        engine: &Engine,
        code: &Code,
        digest: Digest,
        size: usize,
        survey: Survey,
    ) -> Result<Self, LoadError> {
        let linked = engine.linker().instantiate_pre(code).map_err(|error| LoadError::Contract(in_words(&error)))?;
        let asked = Exports::of(&linked)?;
        Ok(Self { digest, size, imports: survey.imports, exports: survey.exports, asked, linked })
    }
}

impl From<Arc<Compiled>> for Component {
    fn from(compiled: Arc<Compiled>) -> Self {
        Self(compiled)
    }
}

impl Component {
    /// The digest of its bytes.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The number of its bytes.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// The names of what it imports.
    pub fn imports(&self) -> Vec<String> {
        self.0.imports.clone()
    }

    /// The names of what it exports.
    pub fn exports(&self) -> Vec<String> {
        self.0.exports.clone()
    }

    /// True when it has an opinion of its settings.
    pub fn checks(&self) -> bool {
        self.0.asked.check.is_some()
    }

    /// True when it says which images are cached.
    pub fn filters(&self) -> bool {
        self.0.asked.filter.is_some()
    }

    /// True when it says how references are rewritten.
    pub fn rewrites(&self) -> bool {
        self.0.asked.rewrite.is_some()
    }

    /// Which of the contract's interfaces it has.
    pub(crate) fn asked(&self) -> &Exports {
        &self.0.asked
    }

    pub(crate) fn linked(&self) -> &InstancePre<Host> {
        &self.0.linked
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut component = f.debug_struct("Component");
        component.field("digest", &self.0.digest).field("size", &self.0.size).finish_non_exhaustive()
    }
}
