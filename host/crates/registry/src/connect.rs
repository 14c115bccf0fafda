use std::collections::HashSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;
use url::Url;

use crate::guard;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Which addresses a client may connect to.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// Every one: the registry inside the cluster, and where it keeps its blobs, is chosen by whoever runs it.
    Everything,
    /// What [`guard::refusal`] lets through, and these hosts at these ports.
    Public(Arc<HashSet<(String, u16)>>),
}

impl Reach {
    /// True where the registries file names this host and port, so that its address is not asked about.
    pub(crate) fn is_named(&self, url: &Url) -> bool {
        match self {
            Self::Everything => true,
            Self::Public(named) => host_and_port(url).is_some_and(|authority| named.contains(&authority)),
        }
    }
}

/// What a connection goes to: the host without the brackets of an IPv6 address, and the port.
pub(crate) fn host_and_port(url: &Url) -> Option<(String, u16)> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Some((host, url.port_or_known_default()?))
}

/// A connection was not made, because its address is not one for everybody.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} is at {address}, {why}, which only a host that the registries file names may have")]
pub(crate) struct AddressRefused {
    host: String,
    address: IpAddr,
    why: &'static str,
}

/// A connection was not made in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(crate) struct NotConnected(Duration);

/// Makes connections: name resolution, then the guard, then TCP (both address families side by side,
/// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)), then TLS where the scheme asks for it; all of it in a bounded
/// time.
#[derive(Clone)]
pub(crate) struct Connector {
    dial: HttpsConnector<Dial>,
    within: Duration,
}

impl Connector {
    pub(crate) fn new(reach: Reach, tls: Arc<rustls::ClientConfig>, within: Duration) -> Self {
        let dial = Dial {
            guarded: tcp(GuardedResolver(GaiResolver::new()), within),
            open: tcp(GaiResolver::new(), within),
            reach,
        };
        Self { dial: HttpsConnector::from((dial, tls)), within }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.dial.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, within) = (self.dial.call(uri), self.within);
        Box::pin(async move {
            tokio::time::timeout(within, connecting).await.unwrap_or_else(|_| Err(NotConnected(within).into()))
        })
    }
}

/// TCP, guarded unless the host is named.
#[derive(Clone)]
struct Dial {
    guarded: HttpConnector<GuardedResolver>,
    open: HttpConnector<GaiResolver>,
    reach: Reach,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        std::task::ready!(self.guarded.poll_ready(cx))?;
        self.open.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let url = match Url::parse(&uri.to_string()) {
            Ok(url) => url,
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        if self.reach.is_named(&url) {
            let connecting = self.open.call(uri);
            return Box::pin(async move { Ok(connecting.await?) });
        }
        // A literal address is never resolved, so the guarded resolver would not see it.
        let literal = host_and_port(&url).and_then(|(host, _)| Some((host.parse::<IpAddr>().ok()?, host)));
        if let Some((address, host)) = literal
            && let Some(why) = guard::refusal(address)
        {
            return Box::pin(async move { Err(AddressRefused { host, address, why }.into()) });
        }
        let connecting = self.guarded.call(uri);
        Box::pin(async move { Ok(connecting.await?) })
    }
}

fn tcp<R>(resolver: R, within: Duration) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    // Shared out among a name's addresses, so that one that is silent leaves time for the others.
    connector.set_connect_timeout(Some(within));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector
}

/// Resolves a name to those of its addresses that the guard lets through.
#[derive(Clone)]
struct GuardedResolver(GaiResolver);

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let resolving = self.0.call(name);
        Box::pin(async move { let_through(&host, resolving.await?) })
    }
}

fn let_through(
    host: &str,
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<std::vec::IntoIter<SocketAddr>, BoxError> {
    let mut refused = None;
    let mut public = Vec::new();
    for address in addresses {
        match guard::refusal(address.ip()) {
            None => public.push(address),
            Some(why) => refused = Some(AddressRefused { host: host.to_owned(), address: address.ip(), why }),
        }
    }
    match refused {
        Some(refused) if public.is_empty() => Err(refused.into()),
        _ => Ok(public.into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_a_name_with_mixed_addresses_only_the_public_ones_are_tried() {
        let given = addresses(&["10.0.0.1:0", "1.1.1.1:0", "[::1]:0"]);
        let left: Vec<_> = let_through("x.example", given.into_iter()).unwrap().collect();
        assert_eq!(left, addresses(&["1.1.1.1:0"]));
    }

    #[test]
    fn a_name_with_private_addresses_alone_is_refused_in_words() {
        let error = let_through("x.example", addresses(&["10.0.0.1:0"]).into_iter()).unwrap_err().to_string();
        assert!(error.contains("x.example is at 10.0.0.1, a private address"), "{error}");
    }

    #[test]
    fn a_named_host_is_named_at_its_port_only() {
        let reach = Reach::Public(Arc::new(HashSet::from([("reg.example".to_owned(), 443)])));
        assert!(reach.is_named(&Url::parse("https://REG.example/v2/").unwrap()));
        assert!(!reach.is_named(&Url::parse("http://reg.example/v2/").unwrap()));
        assert!(!reach.is_named(&Url::parse("https://reg.example:6443/").unwrap()));
    }
}
