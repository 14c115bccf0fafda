use std::fmt;
use std::sync::Arc;

use cache_registry_core::{Digest, Hasher};
use wasmtime::component::InstancePre;

use crate::engine::Engine;
use crate::host::Host;
use crate::load::{Exports, LoadError, in_words};

/// A component that was compiled and linked, from which policies are loaded. A handle: clones share the code.
#[derive(Clone)]
pub struct Component(Arc<Compiled>);

struct Compiled {
    digest: Digest,
    size: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    asked: Exports,
    linked: InstancePre<Host>,
}

impl Engine {
    /// Compiles a component and links it with what policies are offered.
    ///
    /// Takes milliseconds for a small component and seconds for one of several megabytes: not for a thread that
    /// serves requests.
    pub fn compile(&self, wasm: &[u8]) -> Result<Component, LoadError> {
        expect_component(wasm)?;
        let component = wasmtime::component::Component::new(self.wasmtime(), wasm)
            .map_err(|error| LoadError::Compile(in_words(&error)))?;
        let ty = component.component_type();
        let imports: Vec<_> = ty.imports(self.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        let exports: Vec<_> = ty.exports(self.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        crate::load::expect_known_imports(&imports)?;
        let linked =
            self.linker().instantiate_pre(&component).map_err(|error| LoadError::Contract(in_words(&error)))?;
        let asked = Exports::of(&linked, &exports)?;
        Ok(Component(Arc::new(Compiled {
            digest: Hasher::sha256(wasm),
            size: wasm.len(),
            imports,
            exports,
            asked,
            linked,
        })))
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

/// The first eight bytes: a magic number, a version and a layer
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md#component-definitions>).
fn expect_component(wasm: &[u8]) -> Result<(), LoadError> {
    match wasm {
        [] => Err(LoadError::Empty),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        [b'\0', b'a', b's', b'm', ..] => Ok(()),
        _ => Err(LoadError::NotWasm),
    }
}
