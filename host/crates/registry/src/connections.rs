use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::future::Cache;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use url::Url;

use crate::asked::Leg;
use crate::connect::{Connector, Reach, host_and_port};
use crate::exchange::{Endpoint, Sent};
use crate::quota::{Quota, Quotas};
use crate::registries::Place;
use crate::token::Tokens;
use crate::{Credentials, Error, Registries, Repository};

/// Connections to registries: pools, trust, tokens, and who may be connected to. Clones share them.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

/// How long to wait for registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the registry inside the cluster, which is near or sick.
    pub cache: Waits,
    /// For every other registry.
    pub upstream: Waits,
}

/// How long to wait for one registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Until there is a connection: name resolution, TCP and TLS.
    pub connect: Duration,
    /// From the beginning of a read, the connection included, to the headers of its answer.
    pub first_byte: Duration,
    /// Between two pieces of a body, in either direction. A manifest has to be whole within it.
    pub idle: Duration,
    /// From the end of a write to the headers of its answer. A registry may move a whole blob before it answers.
    pub commit: Duration,
}

/// Why no registry can be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            cache: Waits {
                connect: Duration::from_secs(1),
                first_byte: Duration::from_secs(2),
                idle: Duration::from_secs(10),
                commit: Duration::from_mins(2),
            },
            upstream: Waits {
                connect: Duration::from_secs(5),
                first_byte: Duration::from_secs(15),
                idle: Duration::from_secs(30),
                commit: Duration::from_mins(2),
            },
        }
    }
}

impl Connections {
    /// Reads the system's CA certificates; makes no connection.
    pub fn new(registries: Registries, timeouts: Timeouts) -> Result<Self, SetupError> {
        let named = registries.all_places().filter_map(|place| host_and_port(&place.url)).collect();
        let reach = Reach::Public(Arc::new(named));
        let roots = public_roots();
        let mut own_cas: Vec<OwnCa> = Vec::new();
        for certificates in registries.all_places().filter_map(|place| place.ca.as_ref()) {
            if own_cas.iter().all(|known| known.certificates != *certificates) {
                let mut roots = roots.clone();
                for certificate in certificates.iter() {
                    roots.add(certificate.clone())?;
                }
                let clients = Clients::new(roots, &reach, &timeouts)?;
                own_cas.push(OwnCa { certificates: Arc::clone(certificates), clients });
            }
        }
        let clients = Clients::new(roots, &reach, &timeouts)?;
        let homes = Cache::builder().max_capacity(20_000).build();
        let without_referrers = Cache::builder().max_capacity(1_000).time_to_live(REFERRERS_ASKED_AGAIN).build();
        Ok(Self(Arc::new(Shared {
            registries,
            timeouts,
            reach,
            clients,
            own_cas,
            tokens: Tokens::new(),
            homes,
            cache_credentials: ArcSwapOption::empty(),
            cache_headers: OnceLock::new(),
            without_referrers,
            quotas: Arc::default(),
        })))
    }

    /// A repository of an upstream registry. `registry` is the host as it stands in references.
    ///
    /// Reads go to the mirrors that the registries file gives, in order, and at last to the registry itself.
    pub fn upstream(&self, registry: &str, repository: &str) -> Repository {
        self.upstream_as(registry, repository, None)
    }

    /// The same in somebody's name, where there are credentials.
    ///
    /// They are the registry's: they go to its endpoint and to the token service that this one names, once it asks for
    /// them; not to a mirror, not to where a redirect leads, and not in the clear where the endpoint has TLS.
    pub fn upstream_as(&self, registry: &str, repository: &str, credentials: Option<Credentials>) -> Repository {
        let name: Arc<str> = registry.into();
        let endpoints = match self.0.registries.places(registry) {
            Ok(places) => {
                let mut endpoints: Vec<_> =
                    places.iter().map(|place| self.endpoint(Leg::Upstream, &name, place)).collect();
                // The mirrors come before it.
                if let Some(itself) = endpoints.last_mut() {
                    itself.credentials = credentials;
                }
                Ok(endpoints.into())
            }
            Err(error) => Err(Error::nowhere(registry, error)),
        };
        Repository::new(self.clone(), endpoints, repository)
    }

    /// In whose name the registry inside the cluster is spoken to, from the next [`Self::cache`] on and by every clone;
    /// in nobody's with `None`, as at the beginning.
    ///
    /// They are brought along unasked, so that no pull begins with a refusal; not to where a redirect leads, and never
    /// to another registry.
    pub fn set_cache_credentials(&self, credentials: Option<Credentials>) {
        self.0.cache_credentials.store(credentials.map(Arc::new));
    }

    /// In whose name that is, at the moment.
    pub fn cache_credentials(&self) -> Option<Credentials> {
        self.0.cache_credentials.load().as_deref().cloned()
    }

    /// What puts headers into every request to the registry inside the cluster, from the next [`Self::cache`] on and by
    /// every clone: the trace that it belongs to. No other registry gets them, nor where a redirect leads: it is none of
    /// theirs how we name what we do. Set once; again is nothing.
    pub fn set_cache_headers(&self, headers: fn(&mut HeaderMap)) {
        let _ = self.0.cache_headers.set(headers);
    }

    /// A repository of the registry inside the cluster, whose address is chosen by whoever runs it: the guard does not
    /// ask where it is. Where the registries file names its host, that entry's CA is trusted.
    pub fn cache(&self, endpoint: &Url, repository: &str) -> Repository {
        let same = |place: &&Place| host_and_port(&place.url) == host_and_port(endpoint);
        let ca = self.0.registries.all_places().find(same).and_then(|place| place.ca.clone());
        let name: Arc<str> = endpoint.host_str().unwrap_or_default().into();
        let mut endpoint = self.endpoint(Leg::Cache, &name, &Place { url: endpoint.clone(), ca });
        endpoint.credentials = self.cache_credentials();
        endpoint.further_headers = self.0.cache_headers.get().copied();
        Repository::new(self.clone(), Ok(Arc::from([endpoint])), repository)
    }

    /// The registries file.
    pub fn registries(&self) -> &Registries {
        &self.0.registries
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// In which repository of a registry a blob was last seen, by the registry's URL and the digest: where a new
    /// repository can mount it from.
    pub(crate) fn homes(&self) -> &Cache<(Url, String), Arc<str>> {
        &self.0.homes
    }

    /// Registries that have no referrers API.
    pub(crate) fn without_referrers(&self) -> &Cache<Arc<str>, ()> {
        &self.0.without_referrers
    }

    /// What upstream registries allow, by their hosts as they stand in references; of those that tell.
    pub fn quotas(&self) -> BTreeMap<Arc<str>, Quota> {
        self.0.quotas.all()
    }

    #[cfg(test)]
    pub(crate) fn note_quota(&self, registry: &Arc<str>, headers: &HeaderMap) {
        self.0.quotas.note(registry, headers);
    }

    fn endpoint(&self, leg: Leg, registry: &Arc<str>, place: &Place) -> Endpoint {
        let shared = &self.0;
        let own = place.ca.as_ref().and_then(|ca| shared.own_cas.iter().find(|own| own.certificates == *ca));
        let clients = own.map_or(&shared.clients, |own| &own.clients);
        let (client, waits, reach) = match leg {
            Leg::Cache => (&clients.cache, shared.timeouts.cache, Reach::Everything),
            Leg::Upstream => (&clients.upstream, shared.timeouts.upstream, shared.reach.clone()),
        };
        let (registry, url, client) = (Arc::clone(registry), place.url.clone(), client.clone());
        let quotas = Arc::clone(&shared.quotas);
        Endpoint { leg, registry, url, waits, reach, client, credentials: None, further_headers: None, quotas }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { registries, timeouts, .. } = &*self.0;
        f.debug_struct("Connections")
            .field("registries", registries)
            .field("timeouts", timeouts)
            .finish_non_exhaustive()
    }
}

struct Shared {
    registries: Registries,
    timeouts: Timeouts,
    reach: Reach,
    clients: Clients,
    own_cas: Vec<OwnCa>,
    tokens: Tokens,
    homes: Cache<(Url, String), Arc<str>>,
    cache_credentials: ArcSwapOption<Credentials>,
    cache_headers: OnceLock<fn(&mut HeaderMap)>,
    without_referrers: Cache<Arc<str>, ()>,
    quotas: Arc<Quotas>,
}

/// How long a registry is taken to have no referrers API when it said so.
const REFERRERS_ASKED_AGAIN: Duration = Duration::from_hours(1);

/// Clients that trust a CA of the registries file beside the public ones. A redirect of such a registry, to a store
/// behind the same CA, is followed with the same trust.
struct OwnCa {
    certificates: Arc<[CertificateDer<'static>]>,
    clients: Clients,
}

struct Clients {
    cache: Client<Connector, Sent>,
    upstream: Client<Connector, Sent>,
}

impl Clients {
    fn new(roots: RootCertStore, reach: &Reach, timeouts: &Timeouts) -> Result<Self, SetupError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        // HTTP/1.1 on both legs: one connection a stream has no window shared with other streams, and bounded memory.
        let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
        let cache = Connector::new(Reach::Everything, Arc::clone(&tls), timeouts.cache.connect);
        let upstream = Connector::new(reach.clone(), tls, timeouts.upstream.connect);
        Ok(Self { cache: client(cache), upstream: client(upstream) })
    }
}

/// What a stream may hold in its connection's buffer: 64 of them stay within 6 MiB, and a read of this size is no
/// slower than a larger one.
const LARGEST_READ: usize = 96 * 1024;

fn client(connector: Connector) -> Client<Connector, Sent> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(32)
        .http1_max_buf_size(LARGEST_READ)
        .build(connector)
}

/// The system's CA certificates; in an image that has none, Mozilla's as they were at build time.
fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some of the system's CA certificates cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
