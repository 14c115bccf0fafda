use super::*;
use crate::mock_api::{Asked, MockApi};
use cache_registry_registry::{Registries, Timeouts};
use contents::Data;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

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
