use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::InstancePre;

use crate::allowance::Allowance;
use crate::bindings::{check, filter, rewrite};
use crate::component::Component;
use crate::engine::Engine;
use crate::failure::{Cause, Failure, one_line};
use crate::health::{Health, Pulse};
use crate::host::Host;
use crate::instance::Instance;
use crate::lane::to_its_end;
use crate::log::Log;
use crate::survey::Survey;
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

/// Why bytes do not make a policy, in words for the person who brought them: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There are none.
    #[error("the file is empty; bring the component that the build made")]
    Empty,
    /// They are something else.
    #[error(
        "this is not WebAssembly; bring the binary component that the build made, not its source, its text form or an \
         archive"
    )]
    NotWasm,
    /// A module, which compilers make first, and not yet a component.
    #[error(
        "this is a core WebAssembly module and not yet a component; `wasm-tools component new` makes one of it, as does \
         the build of a project from `cache-registry policy new`"
    )]
    CoreModule,
    /// A part of it is missing, or was overwritten.
    #[error("the component is cut off or damaged: {0}; build it again, or copy it again")]
    Damaged(String),
    /// It has more bytes than are read.
    #[error(
        "the component has {size} bytes, and at most {largest} are taken; build it for size and strip it of debug \
         information"
    )]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most that one may have.
        largest: usize,
    },
    /// It has more of something than can be dealt with.
    #[error("the component {0}; policies are small programs, build it without what it does not need")]
    TooMuch(String),
    /// Its memory is larger than a policy's from the start.
    #[error(
        "the component begins with {} MiB of memory, and a policy has {} MiB; raise --policy-memory",
        .wants.div_ceil(1 << 20), .has >> 20
    )]
    Memory {
        /// Bytes that it begins with.
        wants: u64,
        /// Bytes that policies have.
        has: usize,
    },
    /// The process would be ended while it compiles.
    #[error(
        "compiling the component takes about {} MiB of memory, and this container may have {} MiB for everything; raise \
         its memory limit, or write the policy in a language that needs no interpreter",
        .wants >> 20, .limit >> 20
    )]
    Room {
        /// Bytes that are expected to be taken.
        wants: u64,
        /// The container's limit.
        limit: u64,
    },
    /// It uses features of WebAssembly that are off, or more of something than an instance gets.
    #[error("the component does not compile: {0}; build it with the features that current toolchains use by default")]
    Compile(String),
    /// Compiling was given up.
    #[error(
        "the component was not compiled in {0:?} of a core's time, which is far beyond what policies take; make it smaller"
    )]
    TooLong(Duration),
    /// Others that took too long are still being compiled.
    #[error("components before this one still keep the compiler busy; take those out, and bring this one again later")]
    Busy,
    /// It wants what policies do not get.
    #[error(
        "the component imports {0}; policies are offered {PACKAGE}/host and {PACKAGE}/types, and WASI 0.2 without HTTP \
         and with nothing in it; build it without the features that need more"
    )]
    Import(String),
    /// It was built for a version of the contract that is another contract.
    #[error(
        "the component was built for {PACKAGE}@{0}, and this host offers {VERSION}; build it with the SDK or the WIT of \
         this release of cache-registry, or run the release that it was built for"
    )]
    Version(String),
    /// It answers no question.
    #[error(
        "the component exports neither {PACKAGE}/filter@{VERSION} nor {PACKAGE}/rewrite@{VERSION}, but {0}; build it for \
         a world of the contract: filtering, rewriting or deciding"
    )]
    NothingToAsk(String),
    /// Its functions have other types than the contract's.
    #[error(
        "the component does not keep to {PACKAGE}@{VERSION}: {0}; build it with the SDK or the WIT of this release of \
         cache-registry"
    )]
    Contract(String),
    /// An instance of it does not come to be, or `check` does not return.
    #[error("the policy was tried, and it {failure}; {advice}")]
    Trial {
        /// What it did.
        failure: String,
        /// What to do.
        advice: &'static str,
        /// The kind of failure: the label of the metric of failures.
        cause: &'static str,
    },
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
            Self::Damaged(_) => "damaged",
            Self::TooLarge { .. } | Self::TooMuch(_) => "too-large",
            Self::Memory { .. } | Self::Room { .. } => "memory",
            Self::Compile(_) => "compile",
            Self::TooLong(_) => "compile-time",
            Self::Busy => "busy",
            Self::Import(_) => "import",
            Self::Version(_) => "version",
            Self::NothingToAsk(_) => "export",
            Self::Contract(_) => "contract",
            Self::Trial { .. } => "trial",
            Self::Settings(_) => "settings",
        }
    }

    fn trial(failure: &Failure) -> Self {
        let advice = match failure.cause() {
            Cause::Memory => "make it use less, or raise --policy-memory",
            Cause::Time => "make it do less before it answers, or raise --policy-time",
            Cause::Start => "bring it again when fewer requests are decided on",
            Cause::Trap | Cause::Data | Cause::Error | Cause::Reference => "its log may say more",
        };
        Self::Trial { failure: failure.to_string(), advice, cause: failure.cause().as_str() }
    }
}

impl From<wasmparser::BinaryReaderError> for LoadError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Damaged(one_line(&error.to_string(), 200))
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
    /// Takes as long as a policy has for a request; three times that, and what it waits for a core, where it is too slow.
    pub fn load(&self, name: &str, component: &Component, settings: &str) -> Result<Policy, LoadError> {
        let identity = Arc::new(Identity { name: name.to_owned(), settings: settings.to_owned() });
        let policy = Policy { identity, component: component.clone(), pulse: Pulse::default() };
        for _ in 1..TRIALS {
            match to_its_end(try_out(self, &policy)) {
                Err(LoadError::Trial { cause, .. }) if cause == Cause::Time.as_str() => {}
                outcome => return outcome.map(|()| policy),
            }
        }
        to_its_end(try_out(self, &policy)).map(|()| policy)
    }
}

/// A trial that ran out of time is made anew so often. It may have been the machine that was busy, and nobody would try
/// the policy again before its author changes something.
const TRIALS: usize = 3;

/// Finds by names alone what is not a policy for this host, before anybody waits for a compiler.
pub(crate) fn expect_contract(survey: &Survey) -> Result<(), LoadError> {
    let names = || survey.imports.iter().chain(&survey.exports);
    if let Some(version) = names().filter_map(|name| of_the_contract(name)).find(|version| !is_compatible(version)) {
        return Err(LoadError::Version(one_line(version, 50)));
    }
    let known = |name: &str| {
        let ours = ["host", "types"].iter().any(|part| name.starts_with(&format!("{PACKAGE}/{part}@")));
        ours || wasi::offers(name)
    };
    let unknown: Vec<_> = survey.imports.iter().map(String::as_str).filter(|name| !known(name)).collect();
    if !unknown.is_empty() {
        return Err(LoadError::Import(one_line(&unknown.join(", "), 300)));
    }
    let asked =
        |name: &String| ["filter", "rewrite"].iter().any(|part| name.starts_with(&format!("{PACKAGE}/{part}@")));
    if survey.exports.iter().any(asked) {
        return Ok(());
    }
    let exports = if survey.exports.is_empty() { "nothing".to_owned() } else { survey.exports.join(", ") };
    Err(LoadError::NothingToAsk(one_line(&exports, 300)))
}

/// The version of the contract in the name of one of its interfaces.
fn of_the_contract(name: &str) -> Option<&str> {
    name.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@').map(|(_, version)| version)
}

/// As names of interfaces are matched: the first number that is not zero decides
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Explainer.md#canonical-interface-name>).
fn is_compatible(version: &str) -> bool {
    let track = |version: &str| {
        let numbers: Vec<u64> = version.split('.').map_while(|number| number.parse().ok()).collect();
        let decides = numbers.iter().position(|number| *number > 0).unwrap_or(2);
        numbers.into_iter().take(decides + 1).collect::<Vec<_>>()
    };
    track(version) == track(VERSION)
}

impl Exports {
    pub(crate) fn of(component: &InstancePre<Host>) -> Result<Self, LoadError> {
        let has = |interface| {
            component.component().get_export_index(None, format!("{PACKAGE}/{interface}@{VERSION}")).is_some()
        };
        let contract = |error: wasmtime::Error| LoadError::Contract(in_words(&error));
        Ok(Self {
            check: has("check").then(|| check::GuestIndices::new(component)).transpose().map_err(contract)?,
            filter: has("filter").then(|| filter::GuestIndices::new(component)).transpose().map_err(contract)?,
            rewrite: has("rewrite").then(|| rewrite::GuestIndices::new(component)).transpose().map_err(contract)?,
        })
    }
}

/// With functions in interfaces, wasmtime compares types only where there is an instance.
async fn try_out(engine: &Engine, policy: &Policy) -> Result<(), LoadError> {
    let log = Arc::new(Log::of(policy.identity.clone()));
    let trial = |error: wasmtime::Error| LoadError::trial(&Failure::of(&error, engine.limits().time, &log));
    let contract = |error: wasmtime::Error| LoadError::Contract(in_words(&error));
    let allowance = Allowance::unhurried(engine.limits());
    let instance = Instance::new(engine, policy, Arc::default(), log.clone(), allowance).await;
    let mut instance = instance.map_err(trial)?;
    let exports = policy.component.asked();
    instance.compare(exports).map_err(contract)?;
    let Some(check) = &exports.check else { return Ok(()) };
    let answer = instance.check(check).await.map_err(trial)?;
    answer.map_err(|complaint| LoadError::Settings(one_line(&complaint, 500)))
}

/// The chain of causes: wasmtime's first line alone hides the one that helps.
pub(crate) fn in_words(error: &wasmtime::Error) -> String {
    one_line(&format!("{error:#}"), 300)
}
