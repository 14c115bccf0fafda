//! TLS, and a CA of one's own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use http::request::Parts;

use crate::connections_by;
use crate::images::Images;

/// Answers over TLS, with a certificate for `127.0.0.1` that no public CA signed. Returns its PEM.
pub(crate) async fn serve(answer: impl Fn(&Parts) -> Response + Send + Sync + 'static) -> (SocketAddr, String) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = RustlsConfig::from_pem(certificate.clone().into_bytes(), key.into_bytes()).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let answer = Arc::clone(&answer);
        async move { answer(&request.into_parts().0) }
    });
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));
    (address, certificate)
}

#[tokio::test]
async fn a_ca_of_the_registries_file_is_trusted_there_and_no_other_is() {
    let (images, digest) = Images::of_layers("1", &[b"layer"]);
    let (address, certificate) = serve(move |parts| images.answer(parts)).await;

    let untrusting = connections_by(&format!("registries:\n  {address}: {{}}\n"));
    let error = untrusting.upstream(&address.to_string(), "x").get_manifest("1").await.unwrap_err();
    assert!(
        error.to_string().contains("UnknownIssuer")
            && error.to_string().contains("Check the certificate; a CA of your own"),
        "{error}"
    );

    let inline = certificate.replace('\n', "\n      ");
    let trusting = connections_by(&format!("registries:\n  {address}:\n    ca: |\n      {inline}\n"));
    assert_eq!(trusting.upstream(&address.to_string(), "x").get_manifest("1").await.unwrap().digest, digest);
    // The registry inside the cluster may be the one that the file names.
    let cache = format!("https://{address}").parse().unwrap();
    assert_eq!(trusting.cache(&cache, "x").get_manifest("1").await.unwrap().digest, digest);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), certificate).unwrap();
    let file = folder.path().join("registries.yaml");
    std::fs::write(&file, format!("registries:\n  {address}:\n    ca: ca.pem\n")).unwrap();
    let registries = cache_registry_registry::Registries::read(&file).unwrap();
    let beside =
        cache_registry_registry::Connections::new(registries, cache_registry_registry::Timeouts::default()).unwrap();
    assert_eq!(beside.upstream(&address.to_string(), "x").get_manifest("1").await.unwrap().digest, digest);
}
