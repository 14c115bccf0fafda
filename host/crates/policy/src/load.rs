use std::fmt;
use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::bindings::{check, filter, rewrite};
use crate::component::Component;
use crate::engine::Engine;
use crate::failure::{Failure, one_line};
use crate::health::{Health, Pulse};
use crate::host::Host;
use crate::instance::Instance;
use crate::log::Log;
use crate::wasi;

/// A policy that was compiled, linked and checked, and can take part in decisions.
pub struct Policy {
    pub(crate) identity: Arc<Identity>,
    pub(crate) component: Component,
    pub(crate) pulse: Pulse,
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
        "the component imports {0}; policies are offered {PACKAGE}/host and {PACKAGE}/types at version {VERSION}, and an \
         empty WASI 0.2 without HTTP; build it without what is not there"
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

impl LoadError {
    /// The kind of the error, in a closed set so that it can be a metric's label or an Event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotWasm => "not-wasm",
            Self::CoreModule => "core-module",
            Self::Compile(_) => "compile",
            Self::Import(_) => "import",
            Self::NothingToAsk(_) => "export",
            Self::Contract(_) => "contract",
            Self::Trial(_) => "trial",
            Self::Settings(_) => "settings",
        }
    }
}

impl Policy {
    /// The name under which it appears in warnings, logs and metrics.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// What it was loaded from.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// True when it says which images are cached.
    pub fn filters(&self) -> bool {
        self.component.filters()
    }

    /// True when it says how references are rewritten.
    pub fn rewrites(&self) -> bool {
        self.component.rewrites()
    }

    /// How it has fared since it was loaded, in whichever sets it was.
    pub fn health(&self) -> Health {
        self.pulse.health()
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
    /// Makes a policy of a component and tries it: it is instantiated within the limits, its functions are compared
    /// with the contract, and it is asked whether its settings are right. They are JSON text, or empty.
    ///
    /// Takes as long as a policy has for a request, at most.
    pub fn load(&self, name: &str, component: &Component, settings: &str) -> Result<Policy, LoadError> {
        let identity = Arc::new(Identity { name: name.to_owned(), settings: settings.to_owned() });
        let policy = Policy { identity, component: component.clone(), pulse: Pulse::default() };
        try_out(self, &policy)?;
        Ok(policy)
    }
}

pub(crate) fn expect_known_imports(imports: &[String]) -> Result<(), LoadError> {
    let of_ours = |name: &str| ["host", "types"].iter().any(|part| name.starts_with(&format!("{PACKAGE}/{part}@")));
    let known = |name: &str| of_ours(name) || wasi::offers(name);
    let unknown: Vec<_> = imports.iter().map(String::as_str).filter(|name| !known(name)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(LoadError::Import(one_line(&unknown.join(", "), 300))) }
}

impl Exports {
    pub(crate) fn of(component: &InstancePre<Host>, names: &[String]) -> Result<Self, LoadError> {
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
        Err(LoadError::NothingToAsk(if names.is_empty() {
            "nothing".to_owned()
        } else {
            one_line(&names.join(", "), 300)
        }))
    }
}

/// With functions in interfaces, wasmtime compares types only where there is an instance.
fn try_out(engine: &Engine, policy: &Policy) -> Result<(), LoadError> {
    let log = Arc::new(Log::of(policy.identity.clone()));
    let trial = |error: wasmtime::Error| LoadError::Trial(Failure::of(&error, engine.limits().time, &log).to_string());
    let contract = |error: wasmtime::Error| LoadError::Contract(in_words(&error));
    let mut instance = Instance::new(engine, policy, Arc::default(), log.clone(), engine.ticks()).map_err(trial)?;
    let exports = policy.component.asked();
    instance.compare(exports).map_err(contract)?;
    match exports.check.as_ref().map_or(Ok(Ok(())), |check| instance.check(check)).map_err(trial)? {
        Ok(()) => Ok(()),
        Err(complaint) => Err(LoadError::Settings(one_line(&complaint, 500))),
    }
}

/// The chain of causes: wasmtime's first line alone hides the one that helps.
pub(crate) fn in_words(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"), 300)
}
