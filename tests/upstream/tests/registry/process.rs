use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cache_registry_upstream::{Access, Control, Fault, INDEX, Image, Matching, Rule};
use http::{Method, StatusCode};

use crate::client::{Client, LONG};

struct Process {
    child: Child,
    control: Control,
    registry: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start() -> Process {
    let (registry, control) = (free(), free());
    let child = Command::new(env!("CARGO_BIN_EXE_upstream"))
        .args(["--listen", &registry.to_string(), "--control", &control.to_string(), "--until-stdin-closes"])
        .env("RUST_LOG", "warn")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let process = Process { child, control: Control::new(control), registry };
    let begun = Instant::now();
    while let Err(error) = process.control.state().await {
        assert!(begun.elapsed() < LONG, "{error:#}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    process
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn everything_can_be_asked_of_it_from_outside() {
    let process = start().await;
    let Process { control, registry, .. } = &process;
    let client = Client::of(*registry);
    let image = Image::hello(b"program").unwrap();
    control.add("library/hello", "1.0", &image).await.unwrap();

    let path = "/v2/library/hello/manifests/1.0";
    let (_, body) = client.exchange(Method::GET, path, &[("accept", INDEX)]).await;
    assert_eq!(body, image.root.bytes);
    for blob in &image.blobs {
        assert_eq!(client.get(&format!("/v2/library/hello/blobs/{}", blob.digest)).await.1, blob.bytes);
    }
    let traffic = control.reset_traffic().await.unwrap();
    assert_eq!(traffic.count(&Matching::blobs()), image.blobs.len());
    assert_eq!(control.traffic().await.unwrap().requests.len(), 0);

    control.misbehave(Rule::on(Matching::manifests(), Fault::Status { code: 502 }).times(1)).await.unwrap();
    assert_eq!(client.get(path).await.0.status, StatusCode::BAD_GATEWAY);
    assert_eq!(control.rules().await.unwrap()[0].times, Some(0));
    control.behave().await.unwrap();
    assert_eq!(control.rules().await.unwrap(), []);

    control.set_access(&Access::Tokens { valid_for: 60 }).await.unwrap();
    assert_eq!(client.get("/v2/").await.0.status, StatusCode::UNAUTHORIZED);
    control.set_access(&Access::Open).await.unwrap();

    control.put_tag("library/hello", "latest", image.digest().as_ref()).await.unwrap();
    control.remove_tag("library/hello", "1.0").await.unwrap();
    assert_eq!(client.exchange(Method::HEAD, path, &[("accept", INDEX)]).await.0.status, StatusCode::NOT_FOUND);
    let latest = "/v2/library/hello/manifests/latest";
    assert_eq!(client.exchange(Method::HEAD, latest, &[("accept", INDEX)]).await.0.status, StatusCode::OK);
    control.remove("library/hello", image.digest().as_ref()).await.unwrap();
    assert_eq!(client.exchange(Method::HEAD, latest, &[("accept", INDEX)]).await.0.status, StatusCode::NOT_FOUND);
    let error = control.remove_tag("library/hello", "1.0").await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error:#}");

    control.off().await.unwrap();
    assert!(Client::of(*registry).open(Method::GET, "/v2/", &[]).await.unwrap_err().is_connect());
    assert!(!control.state().await.unwrap().on);
    control.on().await.unwrap();
    assert_eq!(client.get("/v2/").await.0.status, StatusCode::OK);
}

#[tokio::test]
async fn it_ends_with_its_parent() {
    let mut process = start().await;
    drop(process.child.stdin.take());
    let status = tokio::task::spawn_blocking(move || process.child.wait());
    let status = tokio::time::timeout(LONG, status).await.expect("it ends").unwrap().unwrap();
    assert!(status.success(), "{status}");
}
