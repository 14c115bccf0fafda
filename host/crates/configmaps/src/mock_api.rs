//! An API server that answers what a test tells it to, for the corners that a real one cannot be brought to.

use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse, pair};

pub(crate) struct MockApi(Handle<Request<Body>, Response<Body>>);

/// A request that waits for its answer.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Value,
    answer: SendResponse<Response<Body>>,
}

impl MockApi {
    pub(crate) fn new() -> (Client, Self) {
        let (service, handle) = pair();
        (Client::new(service, "default"), Self(handle))
    }

    /// The next request, whenever it comes.
    pub(crate) async fn asked(&mut self) -> Asked {
        let (request, answer) = self.0.next_request().await.expect("a client");
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            answer,
        }
    }

    /// The next request, which has to be this one, and has to come within a minute (of a paused clock: at once).
    pub(crate) async fn expect(&mut self, method: Method, path: &str) -> Asked {
        let asked = tokio::time::timeout(Duration::from_mins(1), self.asked()).await.expect("a request");
        assert_eq!((&asked.method, asked.path.as_str()), (&method, path), "{}", asked.body);
        asked
    }

    /// True when nothing is asked within an hour (of a paused clock: at once).
    pub(crate) async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_hours(1), self.asked()).await.is_err()
    }
}

impl Asked {
    pub(crate) fn answer(self, object: &Value) {
        self.send(200, object);
    }

    /// As the API server words a refusal: `409 Conflict`, `404 NotFound`.
    pub(crate) fn refuse(self, code: u16, reason: &str) {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason,
        });
        self.send(code, &status);
    }

    fn send(self, code: u16, object: &Value) {
        let body = Body::from(serde_json::to_vec(object).unwrap());
        self.answer.send_response(Response::builder().status(code).body(body).unwrap());
    }
}
