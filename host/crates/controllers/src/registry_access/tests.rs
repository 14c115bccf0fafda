use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::*;
use crate::mock_api::{Asked, MockApi};
use cache_registry_registry::{Credentials, Registries, Timeouts};
use contents::Data;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
const SECRET: &str = "/api/v1/namespaces/ns/secrets/registry";

/// A replica that keeps the Secret `registry`, and the API server's side of it.
struct World {
    api: MockApi,
    access: Access,
    keeping: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl World {
    fn start() -> Self {
        let (client, api) = MockApi::new();
        let connections = Connections::new(Registries::default(), Timeouts::default()).unwrap();
        let kept = RegistryAccess::new(client, "ns", Some("registry"), connections);
        let access = kept.access();
        let keeping = tokio::spawn(async move { match kept.keep().await {} });
        Self { api, access, keeping }
    }

    /// Answers the list with which a watch begins.
    async fn list(&mut self, secrets: &[Value]) {
        let asked = self.api.expect(Method::GET, SECRETS).await;
        assert!(asked.query.contains("fieldSelector=metadata.name%3Dregistry"), "{}", asked.query);
        let list =
            json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "1"}, "items": secrets});
        asked.answer(&list);
    }

    /// The request of the watch.
    async fn watch(&mut self) -> Asked {
        let asked = self.api.expect(Method::GET, SECRETS).await;
        assert!(asked.query.contains("watch=true"), "{}", asked.query);
        asked
    }

    async fn refusal(&self) -> String {
        self.access.granted().await.unwrap_err().message
    }
}

fn secret(resource_version: &str, data: &Data) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "registry", "namespace": "ns", "resourceVersion": resource_version},
        "data": data,
    })
}

fn event(kind: &str, secret: &Value) -> Value {
    json!({"type": kind, "object": secret})
}

fn whole() -> Data {
    contents::lacking(&Data::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_empty_secret_is_filled_in_as_it_was_seen_and_then_used() {
    let mut world = World::start();
    world.list(&[secret("7", &Data::new())]).await;
    let patch = world.api.expect(Method::PATCH, SECRET).await;
    assert_eq!(patch.body["metadata"]["resourceVersion"], "7");
    let data: Data = serde_json::from_value(patch.body["data"].clone()).unwrap();
    assert_eq!(contents::lacking(&data).unwrap(), Data::new());
    let written = secret("8", &data);
    patch.answer(&written);

    world.watch().await.answer(&event("MODIFIED", &written));
    assert_eq!(world.access.granted().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_lacks_nothing_is_not_written() {
    let mut world = World::start();
    world.list(&[secret("7", &whole())]).await;
    world.watch().await;
    assert_eq!(world.access.granted().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_fill_it_in_the_slower_takes_what_the_other_wrote() {
    let mut world = World::start();
    world.list(&[secret("7", &Data::new())]).await;
    world.api.expect(Method::PATCH, SECRET).await.refuse(409, "Conflict");
    world.watch().await.answer(&event("MODIFIED", &secret("8", &whole())));
    // The next request is a watch again and no patch.
    world.watch().await;
    assert_eq!(world.access.granted().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_absent_is_told_by_its_name_and_taken_when_it_comes() {
    let mut world = World::start();
    world.list(&[]).await;
    let watch = world.watch().await;
    let refusal = world.refusal().await;
    assert!(refusal.contains("the Secret registry in ns") && refusal.contains("made by the chart"), "{refusal}");
    watch.answer(&event("ADDED", &secret("8", &whole())));
    world.watch().await;
    assert_eq!(world.access.granted().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_is_told_and_tried_again() {
    let mut world = World::start();
    for _ in 0..2 {
        world.list(&[secret("7", &Data::new())]).await;
        world.api.expect(Method::PATCH, SECRET).await.refuse(403, "Forbidden");
        let refusal = world.refusal().await;
        assert!(refusal.contains("htpasswd.proxy") && refusal.contains("may this ServiceAccount"), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_goes_takes_nothing_from_who_knows_it() {
    let mut world = World::start();
    let there = secret("7", &whole());
    world.list(std::slice::from_ref(&there)).await;
    world.watch().await.answer(&event("DELETED", &there));
    world.watch().await;
    assert_eq!(world.access.granted().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_calls_before_the_secret_was_read_waits_and_not_for_ever() {
    let world = World::start();
    let refusal = world.refusal().await;
    assert!(refusal.contains("not read yet"), "{refusal}");
}

#[tokio::test]
async fn a_registry_without_credentials_is_called_at_once() {
    let (client, _api) = MockApi::new();
    let connections = Connections::new(Registries::default(), Timeouts::default()).unwrap();
    assert_eq!(RegistryAccess::new(client, "ns", None, connections).access().granted().await, Ok(()));
}

/// The real registry, with what was made.
#[tokio::test(flavor = "multi_thread")]
async fn distribution_lets_in_who_has_what_was_made_and_nobody_else() {
    let (made, others) = (whole(), whole());
    let registry = Distribution::start(&made["htpasswd.controllers"].0).await;
    let connections = Connections::new(Registries::default(), Timeouts::default()).unwrap();
    let asked = async || connections.cache(&registry.url, "x").head_manifest("1").await;

    assert_eq!(asked().await.unwrap_err().status().unwrap(), 401);
    for refused in [&others["controllers"], &made["proxy"]] {
        connections.set_cache_credentials(Some(Credentials::of_line(&refused.0).unwrap()));
        assert_eq!(asked().await.unwrap_err().status().unwrap(), 401);
    }
    connections.set_cache_credentials(Some(contents::own(&made).unwrap()));
    assert_eq!(asked().await.unwrap(), None);
}

/// CNCF distribution, on loopback until it is dropped.
struct Distribution {
    url: Url,
    _process: Child,
    _folder: TempDir,
}

impl Distribution {
    async fn start(htpasswd: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| folder.path().join(name);
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        std::fs::write(file("htpasswd"), htpasswd).unwrap();
        let configuration = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n\
             auth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
            file("images").display(),
            file("htpasswd").display()
        );
        std::fs::write(file("config.yml"), configuration).unwrap();
        let process = Command::new(tools().await.join("registry"))
            .arg("serve")
            .arg(file("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let up = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), up).await.expect("distribution is up");
        Self { url: Url::parse(&format!("http://{address}")).unwrap(), _process: process, _folder: folder }
    }
}

/// Built once per machine.
async fn tools() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/tools/build.sh");
    let built = Command::new(script).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(built.status.success(), "tests/tools/build.sh builds the tools of the test bed");
    PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
}
