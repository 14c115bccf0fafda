use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre};

use crate::bindings::{check, filter, rewrite};
use crate::engine::Engine;
use crate::failure::{Failure, one_line};
use crate::host::Host;
use crate::instance::Instance;

/// A policy that was compiled, linked and checked, and can take part in decisions.
pub struct Policy {
    pub(crate) identity: Arc<Identity>,
    pub(crate) exports: Exports,
    pub(crate) component: InstancePre<Host>,
}

/// Who a policy is, and what it was set to.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) settings: String,
}

/// Which of the contract's interfaces a component has, and where.
pub(crate) struct Exports {
    pub(crate) check: Option<check::GuestIndices>,
    pub(crate) filter: Option<filter::GuestIndices>,
    pub(crate) rewrite: Option<rewrite::GuestIndices>,
}

/// Why bytes do not make a policy, in words for the person who brought them.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There are none.
    #[error("the file is empty")]
    Empty,
    /// They are something else.
    #[error("this is not WebAssembly; compressed or text files must be turned into a binary component first")]
    NotWasm,
    /// A module, which compilers make first, and not yet a component.
    #[error("this is a core WebAssembly module, not a component; `wasm-tools component new` makes one of it")]
    CoreModule,
    /// The component is cut off, damaged, too large, or uses features of WebAssembly that are off.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It wants what policies do not get.
    #[error(
        "the component imports {0}; policies are offered {PACKAGE}/host and {PACKAGE}/types at version {VERSION}, and \
         nothing else"
    )]
    Import(String),
    /// It answers no question.
    #[error("the component exports neither {PACKAGE}/filter@{VERSION} nor {PACKAGE}/rewrite@{VERSION}; it exports {0}")]
    NothingToAsk(String),
    /// Its functions have other types than the contract's.
    #[error("the component was built for another contract than {PACKAGE}@{VERSION}: {0}")]
    Contract(String),
    /// An instance of it does not come to be, or `check` does not return.
    #[error("the policy was tried, and it {0}")]
    Trial(String),
    /// What `check` says of the settings.
    #[error("the policy refuses its settings: {0}")]
    Settings(String),
}

const PACKAGE: &str = "cache-registry:policy";
const VERSION: &str = "0.1.0";

impl Policy {
    /// The name under which it appears in warnings, logs and metrics.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// True when it says which images are cached.
    pub fn filters(&self) -> bool {
        self.exports.filter.is_some()
    }

    /// True when it says how references are rewritten.
    pub fn rewrites(&self) -> bool {
        self.exports.rewrite.is_some()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut policy = f.debug_struct("Policy");
        policy.field("name", &self.name()).field("filters", &self.filters()).field("rewrites", &self.rewrites());
        policy.finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles a component and tries it: it is instantiated within the limits, its functions are compared with the
    /// contract, and it is asked whether its `settings` are right.
    ///
    /// Takes milliseconds for a small component and seconds for one of several megabytes, all of it on this thread
    /// and Cranelift's: not for a thread that serves requests.
    pub fn load(&self, name: &str, wasm: &[u8], settings: &str) -> Result<Policy, LoadError> {
        expect_component(wasm)?;
        let component = Component::new(self.wasmtime(), wasm).map_err(|error| LoadError::Compile(in_words(&error)))?;
        expect_known_imports(self, &component)?;
        let component =
            self.linker().instantiate_pre(&component).map_err(|error| LoadError::Contract(in_words(&error)))?;
        let exports = Exports::of(self, &component)?;
        let identity = Arc::new(Identity { name: name.to_owned(), settings: settings.to_owned() });
        let policy = Policy { identity, exports, component };
        try_out(self, &policy)?;
        Ok(policy)
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

fn expect_known_imports(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    let known =
        |name: &str| ["host", "types"].iter().any(|interface| name.starts_with(&format!("{PACKAGE}/{interface}@")));
    let ty = component.component_type();
    let unknown: Vec<_> = ty.imports(engine.wasmtime()).map(|(name, _)| name).filter(|name| !known(name)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(LoadError::Import(one_line(&unknown.join(", "), 300))) }
}

impl Exports {
    fn of(engine: &Engine, component: &InstancePre<Host>) -> Result<Self, LoadError> {
        let has = |interface| {
            component.component().get_export_index(None, format!("{PACKAGE}/{interface}@{VERSION}")).is_some()
        };
        let contract = |error: wasmtime::Error| LoadError::Contract(in_words(&error));
        let exports = Self {
            check: has("check").then(|| check::GuestIndices::new(component)).transpose().map_err(contract)?,
            filter: has("filter").then(|| filter::GuestIndices::new(component)).transpose().map_err(contract)?,
            rewrite: has("rewrite").then(|| rewrite::GuestIndices::new(component)).transpose().map_err(contract)?,
        };
        if exports.filter.is_some() || exports.rewrite.is_some() {
            return Ok(exports);
        }
        let ty = component.component().component_type();
        let names: Vec<_> = ty.exports(engine.wasmtime()).map(|(name, _)| name).collect();
        Err(LoadError::NothingToAsk(if names.is_empty() {
            "nothing".to_owned()
        } else {
            one_line(&names.join(", "), 300)
        }))
    }
}

/// With functions in interfaces, wasmtime compares types only where there is an instance.
fn try_out(engine: &Engine, policy: &Policy) -> Result<(), LoadError> {
    let trial = |error: wasmtime::Error| LoadError::Trial(Failure::of(&error, engine.limits().time).to_string());
    let contract = |error: wasmtime::Error| LoadError::Contract(in_words(&error));
    let mut instance = Instance::new(engine, policy, Arc::default(), Arc::default(), engine.ticks()).map_err(trial)?;
    instance.compare(&policy.exports).map_err(contract)?;
    match policy.exports.check.as_ref().map_or(Ok(Ok(())), |check| instance.check(check)).map_err(trial)? {
        Ok(()) => Ok(()),
        Err(complaint) => Err(LoadError::Settings(one_line(&complaint, 500))),
    }
}

/// The chain of causes: wasmtime's first line alone hides the one that helps.
fn in_words(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"), 300)
}
