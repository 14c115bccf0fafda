//! The server on a real socket: protocols, a certificate that changes, clients that stall, and the end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what cannot be set up is a failed test")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cache_registry_runtime::{Drain, Shutdown};
use cache_registry_webhook::{Config, Metrics, Server};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(30);

const SERVED: &str = r#"cache_registry_webhook_certificate_loads_total{outcome="served"}"#;
const REFUSED: &str = r#"cache_registry_webhook_certificate_loads_total{outcome="refused"}"#;
const NOT_BEFORE: &str = "cache_registry_webhook_certificate_not_before_timestamp_seconds";
const NOT_AFTER: &str = "cache_registry_webhook_certificate_not_after_timestamp_seconds";

type Identity = CertifiedKey<KeyPair>;

fn identity() -> Identity {
    identity_until(2030)
}

/// One that ends with the first second of a year, ten years after it began.
fn identity_until(year: i32) -> Identity {
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(year - 10, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let signing_key = KeyPair::generate().unwrap();
    CertifiedKey { cert: parameters.self_signed(&signing_key).unwrap(), signing_key }
}

/// A server with two routes: `/` answers at once, `/slow` when it is let.
struct Fixture {
    address: SocketAddr,
    folder: TempDir,
    registry: Registry,
    shutdown: Shutdown,
    serving: JoinHandle<std::io::Result<()>>,
    release: Arc<Notify>,
    arrived: Arc<Notify>,
}

impl Fixture {
    async fn start(identity: &Identity, grace: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, Some(&identity.cert.pem()), Some(&identity.signing_key.serialize_pem()));
        let mut registry = Registry::default();
        let mut config = config(&folder);
        config.drain = Drain { linger: Duration::ZERO, grace };
        let server = Server::bind(config, Metrics::register(&mut registry)).await.unwrap();
        let address = server.local_address().unwrap();
        let (release, arrived, shutdown) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Shutdown::new());
        let (let_go, came) = (release.clone(), arrived.clone());
        let slow = async move || {
            came.notify_one();
            let_go.notified().await;
            "slow"
        };
        let router = Router::new().route("/", get(async || "quick")).route("/slow", get(slow));
        let serving = tokio::spawn(server.serve(router, shutdown.clone()));
        Self { address, folder, registry, shutdown, serving, release, arrived }
    }

    async fn connect(&self, trusted: &[&Identity], alpn: &[&str]) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = connector(trusted, alpn).connect(ServerName::try_from("localhost").unwrap(), stream);
        let stream = timeout(PATIENCE, stream).await.unwrap().unwrap();
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        Client { certificate, sender: Sender::over(stream).await }
    }

    /// The certificate that a new connection is given.
    async fn served_certificate(&self, trusted: &[&Identity]) -> CertificateDer<'static> {
        self.connect(trusted, &["h2"]).await.certificate
    }

    /// Asks for `/slow` on a connection of its own, and returns when it is being answered.
    async fn slow_request(&self, identity: &Identity) -> JoinHandle<hyper::Result<(Version, StatusCode, Bytes)>> {
        let mut client = self.connect(&[identity], &["h2"]).await;
        let under_way = tokio::spawn(async move { client.get("/slow").await });
        timeout(PATIENCE, self.arrived.notified()).await.unwrap();
        under_way
    }

    fn metric(&self, name: &str) -> i64 {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).unwrap();
        let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{out}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    async fn metric_becomes(&self, name: &str, value: i64) {
        let becomes = async {
            while self.metric(name) != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, becomes).await.unwrap_or_else(|_| panic!("{name} stays at {}", self.metric(name)));
    }
}

fn config(folder: &TempDir) -> Config {
    let file = |name| folder.path().join(name);
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), file("tls.crt"), file("tls.key"));
    config.poll = Duration::from_millis(20);
    config
}

/// Each file is exchanged at once, as a mounted Secret's is.
fn write(folder: &TempDir, certificate: Option<&str>, key: Option<&str>) {
    for (name, content) in [("tls.crt", certificate), ("tls.key", key)] {
        if let Some(content) = content {
            fs::write(folder.path().join("new"), content).unwrap();
            fs::rename(folder.path().join("new"), folder.path().join(name)).unwrap();
        }
    }
}

fn connector(trusted: &[&Identity], alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for identity in trusted {
        roots.add(identity.cert.der().clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

struct Client {
    certificate: CertificateDer<'static>,
    sender: Sender,
}

/// Of the protocol that the handshake agreed on.
enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        if two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::One(sender)
        }
    }
}

impl Client {
    async fn get(&mut self, path: &str) -> hyper::Result<(Version, StatusCode, Bytes)> {
        let request = Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap();
        let answer = async {
            let response = match &mut self.sender {
                Sender::One(sender) => sender.send_request(request).await?,
                Sender::Two(sender) => sender.send_request(request).await?,
            };
            let (version, status) = (response.version(), response.status());
            Ok((version, status, response.into_body().collect().await?.to_bytes()))
        };
        timeout(PATIENCE, answer).await.expect("an answer or an end in time")
    }

    async fn expect(&mut self, path: &str, body: &str) {
        let (_, status, bytes) = self.get(path).await.unwrap();
        assert_eq!((status, &bytes[..]), (StatusCode::OK, body.as_bytes()));
    }
}

#[tokio::test]
async fn the_client_chooses_the_protocol_by_alpn() {
    let identity = identity();
    let fixture = Fixture::start(&identity, PATIENCE).await;
    for (alpn, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"][..], Version::HTTP_11), (&[][..], Version::HTTP_11)]
    {
        let mut client = fixture.connect(&[&identity], alpn).await;
        assert_eq!(client.get("/").await.unwrap().0, version, "{alpn:?}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_and_open_connections_go_on() {
    let (old, new) = (identity_until(2030), identity_until(2031));
    let fixture = Fixture::start(&old, PATIENCE).await;
    let mut one = fixture.connect(&[&old], &["http/1.1"]).await;
    let mut two = fixture.connect(&[&old], &["h2"]).await;
    one.expect("/", "quick").await;
    two.expect("/", "quick").await;
    assert_eq!(fixture.metric(NOT_BEFORE), 1_577_836_800, "1 January 2020");
    assert_eq!(fixture.metric(NOT_AFTER), 1_893_456_000, "1 January 2030");

    let under_way = fixture.slow_request(&old).await;
    // Certificate and key in two steps: what is between them is refused, or not seen at all.
    write(&fixture.folder, Some(&new.cert.pem()), Some(&new.signing_key.serialize_pem()));
    fixture.metric_becomes(SERVED, 1).await;
    fixture.metric_becomes(NOT_AFTER, 1_924_992_000).await;
    fixture.metric_becomes(NOT_BEFORE, 1_609_459_200).await;

    assert_eq!(fixture.served_certificate(&[&old, &new]).await, *new.cert.der());
    one.expect("/", "quick").await;
    two.expect("/", "quick").await;
    fixture.release.notify_one();
    assert_eq!(timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap().1, StatusCode::OK);
}

#[tokio::test]
async fn a_bad_or_half_written_pair_keeps_the_one_before_it() {
    let (old, new) = (identity(), identity());
    let fixture = Fixture::start(&old, PATIENCE).await;

    // Half of a file.
    let pem = new.cert.pem();
    write(&fixture.folder, Some(&pem[..pem.len() / 2]), None);
    fixture.metric_becomes(REFUSED, 1).await;
    assert_eq!(fixture.served_certificate(&[&old, &new]).await, *old.cert.der());

    // One of the two files.
    write(&fixture.folder, Some(&pem), None);
    fixture.metric_becomes(REFUSED, 2).await;
    assert_eq!(fixture.served_certificate(&[&old, &new]).await, *old.cert.der());

    // A file that is gone.
    fs::remove_file(fixture.folder.path().join("tls.key")).unwrap();
    fixture.metric_becomes(REFUSED, 3).await;
    assert_eq!(fixture.served_certificate(&[&old, &new]).await, *old.cert.der());

    write(&fixture.folder, None, Some(&new.signing_key.serialize_pem()));
    fixture.metric_becomes(SERVED, 1).await;
    assert_eq!(fixture.served_certificate(&[&old, &new]).await, *new.cert.der());
}

#[tokio::test]
async fn a_server_that_cannot_work_does_not_start() {
    let identity = identity();
    let folder = tempfile::tempdir().unwrap();
    let problem = async || {
        let metrics = Metrics::register(&mut Registry::default());
        Server::bind(config(&folder), metrics).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let absent = problem().await;
    assert!(absent.starts_with("cannot serve TLS: ") && absent.contains("tls.crt: No such file"), "{absent}");
    write(&folder, Some(&identity.cert.pem()), Some("no key"));
    assert!(problem().await.contains("no private key in PEM"), "{}", problem().await);
    write(&folder, Some("no certificate"), Some(&identity.signing_key.serialize_pem()));
    assert!(problem().await.contains("no certificate chain in PEM"), "{}", problem().await);
    write(&folder, Some(&self::identity().cert.pem()), None);
    assert!(problem().await.contains("not usable together"), "{}", problem().await);
    write(&folder, Some(&identity.cert.pem()), None);
    assert_eq!(problem().await, "");
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_is_cut_off_and_delays_nobody() {
    let identity = identity();
    let fixture = Fixture::start(&identity, PATIENCE).await;
    let mut silent = TcpStream::connect(fixture.address).await.unwrap();
    fixture.connect(&[&identity], &["h2"]).await.expect("/", "quick").await;
    let read = timeout(PATIENCE, silent.read(&mut [0; 16])).await.expect("an end in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn shutdown_ends_requests_under_way_and_then_returns() {
    let identity = identity();
    let fixture = Fixture::start(&identity, PATIENCE).await;
    let mut idle = fixture.connect(&[&identity], &["http/1.1"]).await;
    idle.expect("/", "quick").await;
    let under_way = fixture.slow_request(&identity).await;

    fixture.shutdown.begin();
    let closed = async { while TcpStream::connect(fixture.address).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("the listener is closed in time");
    assert!(!fixture.serving.is_finished(), "a request is under way");
    fixture.release.notify_one();
    assert_eq!(timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap().2, "slow");
    timeout(PATIENCE / 2, fixture.serving).await.expect("it returns, long before its grace ends").unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end_within_its_grace() {
    let identity = identity();
    let fixture = Fixture::start(&identity, Duration::from_millis(100)).await;
    let under_way = fixture.slow_request(&identity).await;
    fixture.shutdown.begin();
    timeout(PATIENCE, fixture.serving).await.expect("it returns in time").unwrap().unwrap();
    assert!(timeout(PATIENCE, under_way).await.unwrap().unwrap().is_err(), "nobody let it answer");
}
