use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::network::Network;
use crate::part::{Part, Ready};
use crate::tools::Tools;

const GRPC: u16 = 4317;
const HTTP: u16 = 4318;
const HTTPS: u16 = 4319;

/// The OpenTelemetry Collector, which writes what it takes to a file: from the roles over HTTPS, from the API server and
/// the registry without.
#[derive(Debug)]
pub struct Collector {
    /// Its process.
    pub part: Part,
    /// The URL at which it takes traces without TLS.
    pub url: String,
    file: PathBuf,
}

/// A span as the collector took it.
#[derive(Debug, Clone)]
pub struct Span {
    /// Whose it is: `service.name`.
    pub service: String,
    /// What that does: `cache_registry.role`; empty for others.
    pub role: String,
    /// Its name.
    pub name: String,
    /// The trace that it belongs to.
    pub trace: String,
    /// Its id in there.
    pub id: String,
    /// The id of what it is part of; empty at the root.
    pub parent: String,
    /// Everything that is said of it and of whose it is, OTLP in JSON.
    pub text: String,
    attributes: Value,
}

impl Collector {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools, authority: &Authority) -> Result<Self> {
        let (address, file) = (network.shared(HTTPS), folder.join("traces.json"));
        let certificate = authority.server("collector", address)?;
        let config = folder.join("collector.yaml");
        // JSON, which is YAML too.
        let configuration = json!({
            "receivers": {
                "otlp": { "protocols": {
                    "http": { "endpoint": network.shared(HTTP) },
                    "grpc": { "endpoint": network.shared(GRPC) },
                }},
                "otlp/roles": { "protocols": { "http": {
                    "endpoint": address,
                    "tls": { "cert_file": certificate.certificate, "key_file": certificate.key },
                }}},
            },
            "exporters": { "file": { "path": file, "append": true, "flush_interval": "100ms" } },
            "service": {
                "telemetry": { "metrics": { "level": "none" } },
                "pipelines": { "traces": { "receivers": ["otlp", "otlp/roles"], "exporters": ["file"] } },
            },
        });
        fs::write(&config, configuration.to_string())?;
        let part = Part::new(folder, "collector", tools.path("collector"), Ready::Accepts(address))
            .args([format!("--config=file:{}", config.display())]);
        Ok(Self { part, url: Self::endpoint(network), file })
    }

    /// The URL at which a collector of a bed takes traces of the roles. Its certificate is of the bed's authority.
    pub(crate) fn endpoint_of_the_roles(network: Network) -> String {
        format!("https://{}", network.shared(HTTPS))
    }

    /// The URL at which it takes those of others.
    pub(crate) fn endpoint(network: Network) -> String {
        format!("http://{}", network.shared(HTTP))
    }

    /// A file by which the API server sends there what an administrator who asks it sends.
    pub(crate) fn tracing_of_the_api_server(folder: &Path, network: Network) -> Result<PathBuf> {
        let file = folder.join("tracing.yaml");
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1beta1",
            "kind": "TracingConfiguration",
            "endpoint": network.shared(GRPC),
        });
        fs::write(&file, configuration.to_string())?;
        Ok(file)
    }

    /// All spans that it has taken so far.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        // The last line may be one that is still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut spans = Vec::new();
        for line in whole.lines() {
            let batch: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            for resource in list(&batch["resourceSpans"]) {
                let of = &resource["resource"]["attributes"];
                for span in list(&resource["scopeSpans"]).flat_map(|scope| list(&scope["spans"])) {
                    spans.push(Span::read(of, span));
                }
            }
        }
        Ok(spans)
    }
}

impl Span {
    fn read(of: &Value, span: &Value) -> Self {
        let of_it = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
        Self {
            service: attribute(of, "service.name"),
            role: attribute(of, "cache_registry.role"),
            name: of_it("name"),
            trace: of_it("traceId"),
            id: of_it("spanId"),
            parent: of_it("parentSpanId"),
            text: format!("{of} {span}"),
            attributes: span["attributes"].clone(),
        }
    }

    /// An attribute of it that is a text; empty where it has none of that name.
    pub fn attribute(&self, name: &str) -> String {
        attribute(&self.attributes, name)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn attribute(attributes: &Value, name: &str) -> String {
    let found = list(attributes).find(|attribute| attribute["key"] == name);
    found.and_then(|attribute| attribute["value"]["stringValue"].as_str()).unwrap_or_default().to_owned()
}
