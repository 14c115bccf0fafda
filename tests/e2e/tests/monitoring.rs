//! What happens is seen: by Prometheus, with the chart's alerts and dashboard, and in the logs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_registry_bed::{Bed, CacheKind, GONE_REGISTRY, Options, Prometheus, Target, page, until};
use cache_registry_e2e::{PolicyMaps, TRIED_IMAGE, note, publish, run, tests};
use cache_registry_guests::filter;
use cache_registry_upstream::{Fault, Rule};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

fn main() -> Result<ExitCode> {
    run(
        Options { cache: CacheKind::Guarded, controllers: 2, ..Options::default() },
        tests![
            alerts_fire_for_their_faults_and_for_nothing_else,
            promtool_has_nothing_to_say_about_the_metrics_of_any_role,
            prometheus_sees_every_flow_and_has_data_for_every_alert_and_panel,
            the_lines_about_one_request_have_its_id,
        ],
    )
}

/// How long it may take to be seen. Metrics are read every second; the machine may be busy with other tests.
const LONGEST: Duration = Duration::from_secs(30);

/// What is above 0 after [`something_happens`].
const COUNTED: [&str; 18] = [
    r#"cache_registry_webhook_reviews_total{outcome="patched"}"#,
    r#"cache_registry_webhook_images_total{decision="policy_failed"}"#,
    r#"cache_registry_policy_duration_seconds_count{policy="default-filter"}"#,
    r#"cache_registry_policy_failures_total{policy="trapping"}"#,
    r#"cache_registry_policies{state="refused"}"#,
    r#"cache_registry_leader{role="controllers"}"#,
    r#"cache_registry_cached_images{reason="Cached"}"#,
    r#"cache_registry_copies_total{reason="UpstreamUnreachable"}"#,
    "cache_registry_copied_bytes_total",
    r#"cache_registry_upstream_pulls_left{role="controllers", registry="docker.io"}"#,
    r#"cache_registry_upstream_pull_limit{role="proxy", registry="docker.io"}"#,
    r#"cache_registry_proxy_sent_bytes_total{node="a", leg="cache"}"#,
    r#"cache_registry_proxy_sent_bytes_total{node="b", leg="upstream"}"#,
    r#"cache_registry_proxy_leg_requests_total{leg="cache", outcome="missing"}"#,
    r#"cache_registry_proxy_leg_requests_total{leg="upstream", outcome="sick"}"#,
    r#"cache_registry_proxy_requests_total{served_by="nobody", status="502"}"#,
    r#"cache_registry_proxy_request_duration_seconds_count{kind="blob"}"#,
    r#"registry_http_requests_total{role="registry", code="200"}"#,
];

async fn alerts_fire_for_their_faults_and_for_nothing_else(_bed: &mut Bed) -> Result<()> {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", path(&rules())?], "").await?;
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts.yaml");
    promtool(&["test", "rules", path(&cases)?], "").await?;
    Ok(())
}

async fn promtool_has_nothing_to_say_about_the_metrics_of_any_role(bed: &mut Bed) -> Result<()> {
    something_happens(bed).await?;
    for Target { role, pod, address, .. } in bed.targets().into_iter().filter(|target| target.role != "registry") {
        let metrics = String::from_utf8(page(address, "/metrics").await?.body.to_vec())?;
        ensure!(metrics.contains("cache_registry_"), "{pod} shows {metrics}");
        let said = promtool(&["check", "metrics"], &as_before_openmetrics(&metrics)).await.context(role)?;
        ensure!(said.is_empty(), "{pod}: {said}");
    }
    Ok(())
}

async fn prometheus_sees_every_flow_and_has_data_for_every_alert_and_panel(bed: &mut Bed) -> Result<()> {
    let mut prometheus = bed.prometheus(&rules())?;
    prometheus.part.start().await?;
    something_happens(bed).await?;
    for counted in COUNTED {
        has_data(&prometheus, &format!("{counted} > 0")).await?;
    }

    let rules = prometheus.rules().await?;
    ensure!(rules.len() >= 10, "{rules:?}");
    let panels = dashboard()?;
    let mut expressions = panels.clone();
    for rule in &rules {
        ensure!(rule["lastError"].is_null(), "{rule}");
        expressions.push(rule["query"].as_str().with_context(|| format!("no query in {rule}"))?.to_owned());
    }
    // An alert is empty while all is well, so it is its series that have to be there.
    let series: BTreeSet<String> = expressions.iter().flat_map(|expression| selectors(expression)).collect();
    ensure!(series.len() >= 30, "{series:?}");
    for expression in series.iter().chain(&panels) {
        has_data(&prometheus, expression).await?;
    }
    note!(
        "{} panels' queries and {} series of {} alerts and the panels have data",
        panels.len(),
        series.len(),
        rules.len()
    );
    prometheus.part.kill().await
}

async fn the_lines_about_one_request_have_its_id(bed: &mut Bed) -> Result<()> {
    let policies = PolicyMaps::of(bed);
    policies.clear().await?;
    policies.bring("trapping", &filter("unreachable")).await?;
    policies.create_pod("logged", TRIED_IMAGE).await?;
    policies.clear().await?;
    let log = bed.webhook.log();
    let failed = log.lines().rfind(|line| line.contains("policy failed")).context(log.clone())?;
    ensure!(id_of(failed, "review{uid=").is_some_and(|id| id.len() == 36), "{failed}");

    let answer = bed.a.get(&format!("/v2/{GONE_REGISTRY}/logged/manifests/1")).await?;
    assert_eq!(answer.status, 502);
    let log = bed.a.proxy.log();
    let about: Vec<&str> = log.lines().filter(|line| line.contains(&format!("{GONE_REGISTRY}/logged"))).collect();
    let ids: BTreeSet<_> = about.iter().map(|line| id_of(line, "pull{id=")).collect();
    ensure!(about.len() >= 2 && ids.len() == 1 && !ids.contains(&None), "{about:#?}");
    Ok(())
}

/// Something on every flow, the good and the bad.
async fn something_happens(bed: &Bed) -> Result<()> {
    let policies = PolicyMaps::of(bed);
    policies.clear().await?;
    bed.upstream.misbehave(Rule::all(Fault::Quota { limit: 100, remaining: 76, window: 21_600 })).await?;
    let (hit, miss) = (publish(bed, "seen").await?, publish(bed, "not-seen-before").await?);
    let gone = format!("{GONE_REGISTRY}/app:1");
    // They are there already where another test has called this.
    for (name, image) in [("seen", "seen:1.0"), ("gone", &gone)] {
        bed.kubectl(&["delete", "pod", name, "--ignore-not-found", "--grace-period=0", "--force"]).await?;
        bed.objects().create_pod(name, image).await?;
    }
    bed.objects().cached(&hit.source).await?;
    bed.objects().not_cached(&gone, "UpstreamUnreachable").await?;

    // The registry's paths, since an image that a node has is not pulled again.
    for (node, published) in [(&bed.a, &hit), (&bed.b, &miss)] {
        let manifest = format!("/v2/docker.io/{}/manifests/1.0", published.repository);
        let blobs = published.image.blobs.iter().map(|blob| published.blob_path("docker.io", &blob.digest));
        for path in blobs.chain([manifest]) {
            assert_eq!(node.get(&path).await?.status, 200, "{path}");
        }
    }
    assert_eq!(bed.a.get(&format!("/v2/{GONE_REGISTRY}/app/manifests/1")).await?.status, 502);

    policies.bring("trapping", &filter("unreachable")).await?;
    bed.kubectl(&["delete", "pod", "trapped", "--ignore-not-found", "--grace-period=0", "--force"]).await?;
    policies.create_pod("trapped", TRIED_IMAGE).await?;
    policies.replace("trapping", b"no wasm").await?;
    policies.refused("trapping", "not-wasm").await?;
    Ok(())
}

async fn has_data(prometheus: &Prometheus, expression: &str) -> Result<()> {
    until(format!("{expression} to have a value"), LONGEST, async || {
        Ok((!prometheus.query(expression).await?.is_empty()).then_some(()))
    })
    .await
}

fn chart_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/cache-registry/files").join(name)
}

fn rules() -> PathBuf {
    chart_file("rules.yaml")
}

/// The queries of the dashboard, with what Grafana would put in the place of its variables.
fn dashboard() -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_slice(&fs::read(chart_file("dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> = targets
        .filter_map(|target| target["expr"].as_str())
        .map(|query| query.replace("$namespace", ".*").replace("$__rate_interval", "1m"))
        .collect();
    ensure!(queries.len() >= 30 && queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    Ok(queries)
}

/// The series that an expression goes by: names of metrics, with the labels that it wants.
fn selectors(expression: &str) -> Vec<String> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_of_a_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let labels = if after.starts_with('{') { after.find('}').map_or(0, |end| end + 1) } else { 0 };
        if name == "up" || ["cache_registry_", "registry_"].iter().any(|prefix| name.starts_with(prefix)) {
            found.push(format!("{name}{}", &after[..labels]));
            rest = &after[labels..];
        } else {
            rest = after;
        }
    }
    found
}

/// The same metrics in the older text format, the only one that promtool reads: there a counter's `HELP` and `TYPE` name
/// it as its series do.
fn as_before_openmetrics(metrics: &str) -> String {
    let counters: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(word @ ("HELP" | "TYPE")), Some(name), Some(text)) if counters.contains(name) => {
                format!("# {word} {name}_total {text}\n")
            }
            _ => format!("{line}\n"),
        }
    };
    metrics.lines().map(line).collect()
}

/// Runs promtool, which has to be content, and returns what it prints.
async fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().context("promtool (Debian package prometheus) did not start")?;
    let mut standard_input = process.stdin.take().context("no standard input")?;
    let (input, output) = tokio::join!(
        async move {
            let written = standard_input.write_all(input.as_bytes()).await;
            drop(standard_input);
            written
        },
        timeout(LONGEST, process.wait_with_output()),
    );
    let output = output.with_context(|| format!("promtool {arguments:?} does not end"))??;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if input.is_err() || !output.status.success() {
        bail!("promtool {arguments:?}: {}\n{said}", output.status);
    }
    Ok(said)
}

fn path(file: &Path) -> Result<&str> {
    file.to_str().with_context(|| format!("{} is no text", file.display()))
}

/// What stands in a line of the log after `start`, up to the brace.
fn id_of<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(start)?;
    Some(rest.split_once('}')?.0.trim_matches('"'))
}
