//! What stands between a `PodMonitor` and Prometheus in a cluster: the operator, which makes a configuration of it, and
//! the discovery of pods, which Debian's Prometheus comes without.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Map, Value, json};

/// A file of targets that Prometheus looks at, in the place of its own discovery.
#[derive(Debug)]
pub struct Discovery {
    file: PathBuf,
}

impl Discovery {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let discovery = Self { file: folder.join("pods.json") };
        discovery.found(&[])?;
        Ok(discovery)
    }

    /// Tells Prometheus of these pods, and of no others.
    pub fn found(&self, pods: &[Pod]) -> Result<()> {
        let targets = pods.iter().flat_map(targets).collect::<Value>().to_string();
        if fs::read_to_string(&self.file).is_ok_and(|before| before == targets) {
            return Ok(());
        }
        // Not of this format's extension while it is half written.
        let next = self.file.with_extension("next");
        fs::write(&next, targets)?;
        Ok(fs::rename(next, &self.file)?)
    }

    /// The jobs that the operator makes of a `PodMonitor`, one for each of its endpoints.
    ///
    /// <https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor>
    pub(crate) fn scrape_configs(&self, monitor: &Value) -> Result<Vec<Value>> {
        let spec = only(&monitor["spec"], &["selector", "podMetricsEndpoints"])?;
        let labels = only(&spec["selector"], &["matchLabels"])?["matchLabels"].as_object().context("no matchLabels")?;
        let endpoints = spec["podMetricsEndpoints"].as_array().context("no podMetricsEndpoints")?;
        let name = format!("{}/{}", text(&monitor["metadata"]["namespace"])?, text(&monitor["metadata"]["name"])?);
        let mut jobs = Vec::new();
        for (place, endpoint) in endpoints.iter().enumerate() {
            jobs.push(json!({
                "job_name": format!("podMonitor/{name}/{place}"),
                "file_sd_configs": [{ "files": [self.file], "refresh_interval": "1s" }],
                "relabel_configs": relabelings(&name, labels, endpoint)?,
            }));
        }
        Ok(jobs)
    }
}

/// Which targets an endpoint keeps, and the labels that they get: the operator's own, and then the monitor's.
fn relabelings(monitor: &str, labels: &Map<String, Value>, endpoint: &Value) -> Result<Vec<Value>> {
    let endpoint = only(endpoint, &["port", "relabelings"])?;
    let source = |label: &str| format!("__meta_kubernetes_{label}");
    let keep = |label: &str, value: &str| json!({ "action": "keep", "source_labels": [source(label)], "regex": value });
    let label = |from: &str, to: &str| json!({ "source_labels": [source(from)], "target_label": to });
    let constant = |to: &str, value: &str| json!({ "target_label": to, "replacement": value });

    let ended = "(Failed|Succeeded)";
    let mut all = vec![json!({ "action": "drop", "source_labels": [source("pod_phase")], "regex": ended })];
    for (key, value) in labels {
        all.push(keep(&label_of(key), text(value)?));
    }
    let port = endpoint.get("port").map(text).transpose()?;
    all.extend(port.map(|port| keep("pod_container_port_name", port)));
    all.extend([
        label("namespace", "namespace"),
        label("pod_container_name", "container"),
        label("pod_name", "pod"),
        constant("job", monitor),
    ]);
    all.extend(port.map(|port| constant("endpoint", port)));
    for relabeling in endpoint["relabelings"].as_array().into_iter().flatten() {
        let mut written = Map::new();
        for (key, value) in relabeling.as_object().context("a relabeling is no object")? {
            let key = match key.as_str() {
                "sourceLabels" => "source_labels",
                "targetLabel" => "target_label",
                key @ ("action" | "regex" | "replacement") => key,
                key => bail!("relabelings have {key}, which is not known here"),
            };
            written.insert(key.to_owned(), value.clone());
        }
        all.push(written.into());
    }
    Ok(all)
}

/// What Prometheus finds of a pod: a target for each port that a container names, and one without a port for a container
/// that names none.
///
/// <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod>
fn targets(pod: &Pod) -> Vec<Value> {
    let status = pod.status.as_ref();
    let (Some(spec), Some(ip)) = (&pod.spec, status.and_then(|status| status.pod_ip.as_ref())) else {
        return Vec::new();
    };
    let target = |container: &Container, address: &str, port_name: Option<&String>| {
        let of_pod = [
            ("namespace", pod.metadata.namespace.as_ref()),
            ("pod_name", pod.metadata.name.as_ref()),
            ("pod_ip", Some(ip)),
            ("pod_phase", status.and_then(|status| status.phase.as_ref())),
            ("pod_node_name", spec.node_name.as_ref()),
            ("pod_container_name", Some(&container.name)),
            ("pod_container_port_name", port_name),
        ];
        let of_pod = of_pod.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let labels = pod.metadata.labels.iter().flatten().map(|(key, value)| (label_of(key), value));
        let labels = of_pod.chain(labels).map(|(key, value)| (format!("__meta_kubernetes_{key}"), json!(value)));
        json!({ "targets": [address], "labels": labels.collect::<Map<_, _>>() })
    };
    let of_container = |container: &Container| {
        let ports = container.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            return vec![target(container, ip, None)];
        }
        let of_port =
            ports.iter().map(|port| target(container, &format!("{ip}:{}", port.container_port), port.name.as_ref()));
        of_port.collect()
    };
    spec.containers.iter().flat_map(of_container).collect()
}

/// A pod's label, as Prometheus names it.
fn label_of(key: &str) -> String {
    format!("pod_label_{}", key.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// An object that has these keys and no others: nothing that it says goes unheeded.
fn only<'a>(object: &'a Value, keys: &[&str]) -> Result<&'a Value> {
    let other = object.as_object().context("no object")?.keys().find(|key| !keys.contains(&key.as_str()));
    other.map_or(Ok(object), |other| bail!("a PodMonitor has {other}, which is not known here"))
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}
