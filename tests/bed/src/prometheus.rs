use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::exchange::page;
use crate::network::Network;
use crate::operator::NAMESPACE;
use crate::part::{Part, Ready};

const PORT: u16 = 9090;

/// Debian's Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// Its process, which is not started yet.
    pub part: Part,
    address: SocketAddr,
}

/// Whose metrics are read, and where.
#[derive(Debug, Clone)]
pub struct Target {
    /// `webhook`, `controllers`, `proxy` or `registry`: the pod's label `app.kubernetes.io/component`.
    pub role: &'static str,
    /// What the pod would be called.
    pub pod: String,
    /// The node it would be on.
    pub node: &'static str,
    /// Its admin port.
    pub address: SocketAddr,
}

impl Prometheus {
    /// One that reads metrics as `scrape_configs` say, and judges them by files of rules.
    pub(crate) fn new(folder: &Path, network: Network, scrape_configs: &[Value], rules: &[&Path]) -> Result<Self> {
        let address = network.host(PORT);
        let config = folder.join("prometheus.yml");
        // JSON, which is YAML too.
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": rules,
            "scrape_configs": scrape_configs,
        });
        fs::write(&config, configuration.to_string())?;
        let part = Part::new(folder, "prometheus", "prometheus", Ready::Answers(address, "/-/ready")).args([
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
            format!("--web.listen-address={address}"),
        ]);
        Ok(Self { part, address })
    }

    /// What an expression of `PromQL` is now: the labels and the value of each series.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, String)>> {
        let expression = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.api(&format!("query?query={expression}")).await?;
        let series = data["result"].as_array().with_context(|| format!("no series in {data}"))?;
        let read = |series: &Value| Some((series["metric"].clone(), series["value"][1].as_str()?.to_owned()));
        series.iter().map(|series| read(series).with_context(|| format!("no sample in {series}"))).collect()
    }

    /// Its rules, as it understands them.
    pub async fn rules(&self) -> Result<Vec<Value>> {
        let data = self.api("rules").await?;
        let groups = data["groups"].as_array().with_context(|| format!("no groups in {data}"))?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).cloned().collect())
    }

    async fn api(&self, path: &str) -> Result<Value> {
        let answer = page(self.address, &format!("/api/v1/{path}")).await?;
        let mut answer: Value = serde_json::from_slice(&answer.body)?;
        if answer["status"] != "success" {
            bail!("{path}: {}", answer["error"]);
        }
        Ok(answer["data"].take())
    }
}

/// How these are read, with the labels that the chart's `PodMonitor` would give them.
pub(crate) fn scrape_config(targets: &[Target]) -> Value {
    let scraped = targets.iter().map(|target| {
        let Target { role, pod, node, address } = target;
        json!({
            "targets": [address],
            "labels": { "role": role, "pod": pod, "node": node, "container": role, "namespace": NAMESPACE },
        })
    });
    json!({ "job_name": "cache-registry", "static_configs": scraped.collect::<Vec<_>>() })
}
