//! Headers that are for the registry inside the cluster alone.

use std::sync::{Arc, Mutex};

use axum::response::Response;
use cache_registry_core::Hasher;
use cache_registry_registry::{GetOptions, Object};
use http::HeaderMap;
use http::request::Parts;

use crate::connections;
use crate::images::Images;
use crate::server::{Server, answer, answer_with};

const NAME: &str = "traceparent";
const VALUE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What each request had under [`NAME`], in their order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Option<String>>>>);

impl Told {
    async fn server(&self, answer: impl Fn(&Parts) -> Response + Send + Sync + 'static) -> Server {
        let told = self.clone();
        Server::start(move |parts| {
            let value = parts.headers.get(NAME).map(|value| value.to_str().unwrap().to_owned());
            told.0.lock().unwrap().push(value);
            answer(parts)
        })
        .await
    }

    fn all(&self) -> Vec<Option<String>> {
        self.0.lock().unwrap().clone()
    }
}

fn headers(headers: &mut HeaderMap) {
    headers.insert(NAME, VALUE.parse().unwrap());
}

#[tokio::test]
async fn the_cache_gets_them_and_neither_where_it_redirects_to_nor_an_upstream() {
    let (images, _) = Images::of_layers("1", &[b"layer"]);
    let (in_cache, in_store, upstream) = (Told::default(), Told::default(), Told::default());
    let store = in_store.server(move |parts| images.answer(parts)).await;
    let elsewhere = store.url.clone();
    let cache = in_cache
        .server(move |parts| answer_with(307, &[("location", elsewhere.join(parts.uri.path()).unwrap().as_str())], ""));
    let cache = cache.await;
    let foreign = upstream.server(|_| answer(200, "")).await;
    let connections = connections(&foreign.url);
    connections.clone().set_cache_headers(headers);

    let blob = Object::Blob(Hasher::sha256(b"layer"));
    connections.cache(&cache.url, "x").get(&blob, &GetOptions::default()).await.unwrap();
    connections.upstream("docker.io", "library/x").head_manifest("1").await.unwrap();

    assert_eq!(in_cache.all(), [Some(VALUE.to_owned())]);
    assert_eq!((in_store.all(), upstream.all()), (vec![None], vec![None]));
}
