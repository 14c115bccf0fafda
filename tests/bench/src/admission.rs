use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Request;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::load::Load;
use crate::machine::{LOAD_CPU, SERVER_CPU};
use crate::part::{Part, free_address};
use crate::review::{is_patched, review};
use crate::row::{Better, Row, median, median_ratio};
use crate::serve::Who;

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(1200);
/// Enough to keep the server's one core busy while answers are read.
const CONNECTIONS: usize = 16;
const NAME: &str = "webhook.test";

/// What the rounds of one side came to.
#[derive(Default)]
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
    per_second: Vec<f64>,
}

/// An admission review over TLS: the built-in policies in WebAssembly against the same rules in native code. Each
/// round measures all, one after the other.
pub(crate) async fn measure(folder: &Path) -> Result<Vec<Row>> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let (certificate, key) = (folder.join("webhook.crt"), folder.join("webhook.key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let connector = trusting(made.cert.der().clone())?;

    let start = async |who: Who, name| {
        let address = free_address()?;
        let listen = address.to_string();
        let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
        let what = ["serve", "--decide", who.as_str(), "--listen", &listen];
        let arguments = [&what[..], &["--certificate", &certificate, "--key", &key]].concat();
        let part = Part::start(name, &std::env::current_exe()?, &arguments, address, folder).await?;
        part.pin(&[SERVER_CPU])?;
        anyhow::Ok(part)
    };
    let parts = [
        start(Who::Wasm, "webhook-wasm").await?,
        start(Who::Native, "webhook-native").await?,
        start(Who::NativeOnBlockingThread, "webhook-native-on-blocking-thread").await?,
    ];
    let load = |part: &Part, connections| -> Result<Load> {
        let request = Request::post("/mutate/pods")
            .header(http::header::HOST, NAME)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review())?;
        let tls = Some((connector.clone(), NAME.try_into()?));
        Ok(Load { address: part.address(), tls, request, connections, time: TIME, is_right: is_patched })
    };

    let mut sides = [Side::default(), Side::default(), Side::default()];
    for round in 0..=ROUNDS {
        for (part, side) in parts.iter().zip(&mut sides) {
            let alone = load(part, 1)?.run(&[LOAD_CPU]).await.with_context(|| part.log())?;
            let together = load(part, CONNECTIONS)?.run(&[LOAD_CPU]).await.with_context(|| part.log())?;
            // The first round warms up.
            if round > 0 {
                side.p50.push(alone.quantile(0.5));
                side.p99.push(alone.quantile(0.99));
                side.per_second.push(together.per_second());
            }
        }
    }
    let [wasm, native, on_blocking_thread] = sides;
    let mut rows = Vec::new();
    for (name, of) in [("p50", (|side| &side.p50) as fn(&Side) -> &Vec<f64>), ("p99", |side| &side.p99)] {
        let [wasm, native, on_blocking_thread] = [of(&wasm), of(&native), of(&on_blocking_thread)];
        let (ratio, thread) = (median_ratio(wasm, native), median_ratio(on_blocking_thread, native));
        rows.extend([
            Row::new(format!("review {name}"), median(wasm.clone()), "µs", Better::Lower)
                .against(median(native.clone())),
            Row::ratio(format!("review {name}, Wasm to native"), ratio, Better::Lower).target(1.25),
            Row::ratio(format!("review {name}, native on a blocking thread to native"), thread, Better::Lower),
        ]);
    }
    rows.push(
        Row::new("reviews on one core", median(wasm.per_second), "/s", Better::Higher)
            .target(5000.0)
            .against(median(native.per_second)),
    );
    Ok(rows)
}

fn trusting(certificate: rustls_pki_types::CertificateDer<'static>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
