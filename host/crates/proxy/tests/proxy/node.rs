//! A node's proxy under test, between a cache and the upstream registry `reg.test`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_registry_core::NodeAddress;
use cache_registry_proxy::{Config, Metrics, Proxy, router, serve};
use cache_registry_registry::{Connections, Registries};
use cache_registry_runtime::Shutdown;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

use crate::origin::Origin;

/// The upstream's repository, and the cache's for it.
pub(crate) const UPSTREAM: &str = "app";
pub(crate) const CACHE: &str = "reg.test/app";

/// Short, so that no test waits for long; an order of magnitude apart, so that a busy machine changes no outcome.
pub(crate) const CACHE_WAIT: Duration = Duration::from_millis(500);
pub(crate) const IDLE: Duration = Duration::from_millis(700);

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) connections: Connections,
    metrics: Arc<Registry>,
}

impl Node {
    pub(crate) async fn start(cache: SocketAddr, upstream: SocketAddr) -> Self {
        Self::start_with(cache, upstream, |_| {}).await
    }

    pub(crate) async fn start_with(cache: SocketAddr, upstream: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        let file = format!("registries: {{reg.test: {{endpoint: 'http://{upstream}'}}}}");
        let cache = Url::parse(&format!("http://{cache}")).unwrap();
        let mut config = Config::new(cache, NodeAddress::default());
        config.cache_wait = CACHE_WAIT;
        config.cache_last_wait = Duration::from_secs(5);
        config.upstream_wait = Duration::from_secs(5);
        change(&mut config);
        let mut timeouts = config.timeouts();
        timeouts.cache.idle = IDLE;
        timeouts.upstream.idle = IDLE;
        let connections = Connections::new(Registries::parse(&file).unwrap(), timeouts).unwrap();
        let mut metrics = Registry::default();
        let proxy = Proxy::new(config, connections.clone(), Metrics::register(&mut metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let serving = tokio::spawn(serve(vec![listener], router(Arc::new(proxy)), shutdown.clone()));
        Self { address, shutdown, serving, connections, metrics: Arc::new(metrics) }
    }

    /// The value of a metric's line that begins so; nothing counted is 0.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)).map(|value| value.trim().parse().unwrap());
        value.unwrap_or_default()
    }
}

/// A cache, an upstream and the node between them.
pub(crate) async fn node() -> (Origin, Origin, Node) {
    let (cache, upstream) = (Origin::start().await, Origin::start().await);
    let node = Node::start(cache.address, upstream.address).await;
    (cache, upstream, node)
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Bytes without a pattern that a mistake in an offset could hide behind.
pub(crate) fn noise(length: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect::<Vec<_>>().into()
}
