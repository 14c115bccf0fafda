//! A client that speaks plain HTTP/1.1 and tells what it got, complete or not.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    /// What stands behind the status, where it is not the usual words.
    pub(crate) phrase: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// False when the body was cut.
    pub(crate) is_complete: bool,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code and the message of an error in the form of the distribution specification.
    pub(crate) fn error(&self) -> (String, String) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let error = &body["errors"][0];
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }
}

pub(crate) async fn ask(address: SocketAddr, method: Method, target: &str, headers: &[(&str, &str)]) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost:7439");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (parts, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let mut is_complete = true;
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => is_complete = false,
        }
    }
    drop(sender);
    connection.abort();
    let phrase = parts.extensions.get::<ReasonPhrase>().map(|p| String::from_utf8_lossy(p.as_bytes()).into_owned());
    Got {
        status: parts.status.as_u16(),
        phrase: phrase.unwrap_or_default(),
        headers: parts.headers,
        body: body.freeze(),
        is_complete,
    }
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Got {
    ask(address, Method::GET, target, &[]).await
}

pub(crate) async fn head(address: SocketAddr, target: &str) -> Got {
    ask(address, Method::HEAD, target, &[]).await
}

pub(crate) async fn get_range(address: SocketAddr, target: &str, range: &str) -> Got {
    ask(address, Method::GET, target, &[("range", range)]).await
}
