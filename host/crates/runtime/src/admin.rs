use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::{Readiness, Sharing, Shutdown, listen};

/// A probe that has not sent its request by then is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// `/live`, `/ready` and `/metrics`, plain HTTP, on a port that is not the role's own.
///
/// - `/live` is always 200: a process that answers is not helped by a restart.
/// - `/ready` is 200 when nothing is held in [`Readiness`] and shutdown has not begun; else 503, and the body says why.
/// - `/metrics` is [OpenMetrics text](https://prometheus.io/docs/specs/om/open_metrics_spec/).
///
/// A role adds its own pages by [`with`](Self::with).
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    sharing: Sharing,
    readiness: Readiness,
    metrics: Registry,
    pages: Router,
}

impl Admin {
    /// Takes the port. Done before the role's work is started, so that a port in use is an error at the start.
    pub fn bind(address: SocketAddr, sharing: Sharing, readiness: Readiness, metrics: Registry) -> io::Result<Self> {
        let listener = listen(address, sharing)?;
        Ok(Self { listener, sharing, readiness, metrics, pages: Router::new() })
    }

    /// With pages of the role's own, at other paths.
    #[must_use]
    pub fn with(mut self, pages: Router) -> Self {
        self.pages = self.pages.merge(pages);
        self
    }

    /// Where it listens: the port that was given out when 0 was asked for.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for as long as it is polled. It goes on while the role drains, when `/ready` is 503 and the last
    /// metrics are fetched, so it is spawned and ends with the process. A port that is shared is left to the successor
    /// when shutdown begins: a probe of that one must not be answered by this one.
    pub async fn serve(self, shutdown: Shutdown) -> io::Result<()> {
        let router = router(self.readiness, self.metrics, shutdown.clone()).merge(self.pages);
        let serving = axum_server::Server::<SocketAddr>::from_listener(self.listener)
            .first_request_timeout(REQUEST_TIMEOUT)
            .serve(router.into_make_service());
        tokio::select! {
            served = serving => served,
            () = shutdown.wait(), if self.sharing == Sharing::WithSuccessor => Ok(()),
        }
    }
}

struct About {
    readiness: Readiness,
    metrics: Registry,
    shutdown: Shutdown,
}

fn router(readiness: Readiness, metrics: Registry, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Arc::new(About { readiness, metrics, shutdown }))
}

async fn ready(State(about): State<Arc<About>>) -> (StatusCode, String) {
    if about.shutdown.begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned());
    }
    let waiting_for = about.readiness.waiting_for();
    if waiting_for.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting_for.join(", ")))
    }
}

async fn metrics_text(State(about): State<Arc<About>>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &about.metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
            .into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics could not be written: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt as _;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_names_what_is_held_and_is_over_when_shutdown_begins() {
        let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
        let router = router(readiness.clone(), Registry::default(), shutdown.clone());
        let (watch, certificate) = (readiness.hold("the pod watch"), readiness.hold("the certificate"));

        let waiting = (StatusCode::SERVICE_UNAVAILABLE, "waiting for the pod watch, the certificate\n".to_owned());
        assert_eq!(get(&router, "/ready").await, waiting);
        drop((watch, certificate));
        assert_eq!(get(&router, "/ready").await, (StatusCode::OK, "ready\n".to_owned()));

        shutdown.begin();
        assert_eq!(get(&router, "/ready").await, (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()));
        assert_eq!(get(&router, "/live").await, (StatusCode::OK, "live\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_read_when_asked_for() {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("cache_registry_things", "Things that happened", counter.clone());
        let router = router(Readiness::new(), registry, Shutdown::new());
        counter.inc_by(3);

        let (status, body) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("cache_registry_things_total 3\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn a_role_has_pages_of_its_own_beside() {
        let address = ([127, 0, 0, 1], 0).into();
        let admin = Admin::bind(address, Sharing::Alone, Readiness::new(), Registry::default()).unwrap();
        let admin = admin.with(Router::new().route("/policies", axum::routing::get(async || "[]")));
        let address = admin.local_address().unwrap();
        let server = tokio::spawn(admin.serve(Shutdown::new()));
        for (path, body) in [("/policies", "[]"), ("/live", "live\n")] {
            assert_eq!(get_over_tcp(address, path).await, body);
        }
        server.abort();
    }

    async fn get_over_tcp(address: SocketAddr, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_at_the_start() {
        let first =
            Admin::bind(([127, 0, 0, 1], 0).into(), Sharing::Alone, Readiness::new(), Registry::default()).unwrap();
        let second = Admin::bind(first.local_address().unwrap(), Sharing::Alone, Readiness::new(), Registry::default());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
