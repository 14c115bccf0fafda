use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::NodeAddress;
use tokio::sync::Semaphore;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, RegallocAlgorithm};

use crate::bindings::Deciding;
use crate::clock::Clock;
use crate::compiler::Compiler;
use crate::host::Host;
use crate::lane::SlowLane;
use crate::set::MOST_POLICIES;
use crate::wasi;

/// How much policies may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What one policy has on a core for one request, over all of its containers. It is looked at once in a millisecond,
    /// and more often while policies are not quick. What others have of the cores meanwhile does not count, until the
    /// whole decision has taken three seconds, or four times this.
    pub time: Duration,
    /// Bytes of memory that one policy has for one request.
    pub memory: usize,
    /// How many requests are decided on at once.
    pub concurrency: usize,
    /// How long a request waits for its turn before its images are left alone.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_millis(50), memory: 32 << 20, concurrency: 32, wait: Duration::from_secs(1) }
    }
}

/// What the host answers when policies ask about the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Where nodes pull what is cached.
    pub node_address: NodeAddress,
    /// The registries that hold the cache, as they stand in references: `registry.cache-registry.svc:5000`.
    pub own_registries: Vec<String>,
}

/// Where policies are compiled and run. A handle: clones share the engine, its limits and its slots.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<Host>,
    facts: HostFacts,
    limits: Limits,
    turns: Arc<Semaphore>,
    compiler: Compiler,
    clock: Clock,
    lane: SlowLane,
}

/// The engine did not start.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine does not start with {limits:?}: {problem}")]
pub struct SetupError {
    limits: Limits,
    problem: String,
}

/// Core instances of one guest. Those made with wit-component bring two small modules of glue beside their own, Python's
/// interpreter comes in a dozen.
const MODULES: u32 = 40;

/// Tables of one guest. Each slot for one takes address space.
const TABLES: u32 = 6;

/// Beyond this, slots would take up address space that smaller machines do not have.
const MOST_CONCURRENT: usize = 256;

impl Engine {
    /// Starts an engine whose policies are told `facts`. It has threads of its own, which end with the last handle.
    pub fn new(limits: &Limits, facts: HostFacts) -> Result<Self, SetupError> {
        let problem = |problem: String| SetupError { limits: *limits, problem };
        if !(1..=MOST_CONCURRENT).contains(&limits.concurrency) {
            return Err(problem(format!("concurrency must be between 1 and {MOST_CONCURRENT}")));
        }
        if limits.time.is_zero() {
            return Err(problem("policies need time".to_owned()));
        }
        let facts = facts.normalized().map_err(problem)?;
        let of_wasmtime = |error: wasmtime::Error| problem(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&config(limits)).map_err(of_wasmtime)?;
        let mut linker = Linker::new(&wasmtime);
        Deciding::add_to_linker::<_, HasSelf<_>>(&mut linker, |host| host).map_err(of_wasmtime)?;
        wasi::add_to_linker(&mut linker).map_err(of_wasmtime)?;
        let clock = Clock::start(&wasmtime.weak()).map_err(|error| problem(error.to_string()))?;
        let lane = SlowLane::new().map_err(|error| problem(error.to_string()))?;
        let turns = Arc::new(Semaphore::new(limits.concurrency));
        Ok(Self(Arc::new(Inner {
            wasmtime,
            linker,
            facts,
            limits: *limits,
            turns,
            compiler: Compiler::default(),
            clock,
            lane,
        })))
    }

    /// What policies may take.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The address that policies rewrite to.
    pub fn node_address(&self) -> &NodeAddress {
        &self.0.facts.node_address
    }

    /// The registries that hold the cache, in lower case.
    pub(crate) fn own_registries(&self) -> &[String] {
        &self.0.facts.own_registries
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(crate) fn linker(&self) -> &Linker<Host> {
        &self.0.linker
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.0.compiler
    }

    /// One permit for each request that is being decided on.
    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        self.0.turns.clone()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn lane(&self) -> &SlowLane {
        &self.0.lane
    }
}

impl HostFacts {
    /// Hosts as references have them, in lower case; what could not be one is refused in words.
    fn normalized(mut self) -> Result<Self, String> {
        let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        for host in &mut self.own_registries {
            if host.is_empty() || !host.chars().all(is_of_a_host) {
                return Err(format!(
                    "\"{host}\" is not a registry host; write it as it stands in image references, such as \
                     registry.example:5000"
                ));
            }
            host.make_ascii_lowercase();
        }
        Ok(self)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut engine = f.debug_struct("Engine");
        engine.field("limits", self.limits()).field("node_address", self.node_address()).finish_non_exhaustive()
    }
}

fn config(limits: &Limits) -> Config {
    // A request has one slot for each policy that it may hold on to until the last container is decided.
    let slots = u32::try_from(limits.concurrency * MOST_POLICIES).unwrap_or(u32::MAX);
    let modules = slots.saturating_mul(MODULES);
    let mut pool = PoolingAllocationConfig::new();
    // Nobody gets more than what is set aside for one, or there might be none left for others.
    pool.total_component_instances(slots)
        .total_core_instances(modules)
        .max_core_instances_per_component(MODULES)
        .total_memories(slots)
        .max_memories_per_component(1)
        .total_tables(slots.saturating_mul(TABLES))
        .max_tables_per_component(TABLES)
        // A policy that is asked something has a stack, so that it can go on in another thread.
        .total_stacks(slots)
        .max_memory_size(limits.memory)
        // What a small guest has touched is wiped and kept, which is cheaper than giving it back to the kernel.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        // With the 4 GiB that memories get by default no access needs a bounds check, and the pool needs terabytes of
        // address space, which not every machine has. Policies are too short to notice the checks.
        .memory_reservation(u64::try_from(limits.memory).unwrap_or(u64::MAX))
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20)
        .epoch_interruption(true)
        // The better algorithm takes minutes for some kilobytes of nested loops, and half of the time for the rest; this
        // one costs an interpreter a fourth of its speed, and a small policy nothing that can be measured.
        .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass)
        // Nobody reads where in a guest it trapped.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None);
    config
}
