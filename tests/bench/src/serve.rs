use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Error, Result};
use cache_registry_core::NodeAddress;
use cache_registry_policy::{Engine, HostFacts, Limits, Member, Observer, Policies, PolicySet, built_in};
use cache_registry_runtime::Shutdown;
use cache_registry_webhook as webhook;
use clap::{Args, ValueEnum};
use prometheus_client::registry::Registry;

use crate::native::{Native, OnBlockingThread};

/// A webhook as the product has it, with a choice of who decides.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[arg(long)]
    decide: Who,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// On one thread; the product has one for each core
    #[arg(long)]
    on_one_thread: bool,
    /// With `wasm`: components that are asked before the built-in policies
    #[arg(long)]
    guest: Vec<PathBuf>,
    /// With `wasm`: a component that is compiled again and again meanwhile, each time as another one
    #[arg(long)]
    compile: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Who {
    /// The built-in policies in WebAssembly, a fresh instance for each review.
    Wasm,
    /// The same rules compiled into this program.
    Native,
    /// The same, on a thread that may block: what it would cost to hand each review to one.
    NativeOnBlockingThread,
}

impl Who {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
            Self::NativeOnBlockingThread => "native-on-blocking-thread",
        }
    }
}

/// What both have as the cache's own registry.
const OWN_REGISTRY: &str = "registry.cache-registry.svc:5000";

impl Serve {
    pub(crate) fn run(self) -> Result<()> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        if self.on_one_thread {
            runtime.worker_threads(1);
        }
        runtime.enable_all().build()?.block_on(self.serve())
    }

    async fn serve(self) -> Result<()> {
        let shutdown = Shutdown::on_signals()?;
        let node_address = NodeAddress::default();
        let mut registry = Registry::default();
        let metrics = webhook::Metrics::register(&mut registry);
        let config = webhook::Config::new(self.listen, self.certificate, self.key);
        let server = webhook::Server::bind(config, metrics.clone()).await?;
        let router = match self.decide {
            Who::Native => {
                let decide = Native::new(node_address.clone(), OWN_REGISTRY).map_err(Error::msg)?;
                webhook::router(Arc::new(decide), node_address, metrics)
            }
            Who::NativeOnBlockingThread => {
                let native = Native::new(node_address.clone(), OWN_REGISTRY).map_err(Error::msg)?;
                let decide = OnBlockingThread::new(native);
                webhook::router(Arc::new(decide), node_address, metrics)
            }
            Who::Wasm => {
                let own_registries = vec![OWN_REGISTRY.to_owned()];
                let facts = HostFacts { node_address: node_address.clone(), own_registries };
                let engine = Engine::new(&Limits::default(), facts)?;
                let observer = Observer::from(cache_registry_policy::Metrics::register(&mut registry));
                let mut members = Vec::new();
                for guest in &self.guest {
                    let component = engine.compile(&fs::read(guest)?)?;
                    members.push(Member::from(Arc::new(engine.load("guest", &component, "")?)));
                }
                members.extend(built_in::load(&engine)?.map(Member::from));
                if let Some(component) = self.compile {
                    compile_again_and_again(engine.clone(), fs::read(component)?)?;
                }
                let policies = Policies::new(PolicySet::new(engine, members, observer)?);
                webhook::router(Arc::new(policies), node_address, metrics)
            }
        };
        Ok(server.serve(router, shutdown).await?)
    }
}

/// As the loader of policies would, for as long as the program runs. Each time a custom section makes it a component
/// that was not compiled before.
fn compile_again_and_again(engine: Engine, component: Vec<u8>) -> Result<()> {
    let work = move || {
        for number in 0_u32.. {
            let [a, b, c, d] = number.to_be_bytes();
            // Section 0, six bytes, of the name "n" (Binary.md of the component model).
            let section = [0, 6, 1, b'n', a, b, c, d];
            if let Err(error) = engine.compile(&[&component[..], &section].concat()) {
                complain(&error);
                return;
            }
        }
    };
    std::thread::Builder::new().name("compile".to_owned()).spawn(work)?;
    Ok(())
}

/// Into the server's log, which is shown when the measurement fails.
#[expect(clippy::print_stderr, reason = "a log")]
fn complain(error: &cache_registry_policy::LoadError) {
    eprintln!("compiling ended: {error}");
}
