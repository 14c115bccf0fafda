//! What `run` found, for people and for programs.

use std::fmt;
use std::io::{self, Write};

use cache_registry_core::ContainerKind;
use cache_registry_webhook::{ExplainedContainer, Explanation};
use serde::Serialize;
use serde_json::Value;

use crate::inputs::Explained;

pub(crate) fn text(pods: &[Explained], out: &mut impl Write) -> io::Result<()> {
    for (index, pod) in pods.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let Explanation { namespace, containers, patch, warnings, .. } = &pod.explanation;
        writeln!(out, "{} in namespace {namespace}", pod.title())?;
        for container in containers {
            text_of(container, out)?;
        }
        for warning in warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        if patch.is_empty() {
            writeln!(out, "  no patch")?;
            continue;
        }
        writeln!(out, "  patch")?;
        for operation in &patch.0 {
            let operation = serde_json::to_value(operation)?;
            let part = |key| operation.get(key).and_then(Value::as_str).unwrap_or_default();
            let value = operation.get("value").map(Value::to_string).unwrap_or_default();
            writeln!(out, "{}", format!("    {:<7} {} {value}", part("op"), part("path")).trim_end())?;
        }
    }
    Ok(())
}

fn text_of(container: &ExplainedContainer, out: &mut impl Write) -> io::Result<()> {
    let ExplainedContainer { name, kind, original, image, source, policy, reason } = container;
    let decision = if source.is_some() { "rewritten" } else { "left alone" };
    let (open, close) = if *kind == ContainerKind::Regular { ("", "") } else { (" (", ")") };
    let shown = if open.is_empty() { "" } else { kind_of(*kind) };
    writeln!(out, "  container {name}{open}{shown}{close}: {decision}")?;
    let mut line = |key: &str, value: &dyn fmt::Display| writeln!(out, "    {key:<7} {value}");
    line("image", original)?;
    if let Some(source) = source {
        line("becomes", image)?;
        line("source", source)?;
    }
    line("policy", policy.as_ref().map_or(&"-" as &dyn fmt::Display, |policy| policy))?;
    line("why", reason)
}

pub(crate) fn json(pods: &[Explained], out: &mut impl Write) -> io::Result<()> {
    let pods = pods.iter().map(PodReport::of).collect();
    serde_json::to_writer_pretty(&mut *out, &Report { pods })?;
    writeln!(out)
}

pub(crate) fn patches(pods: &[Explained], out: &mut impl Write) -> io::Result<()> {
    for pod in pods {
        serde_json::to_writer(&mut *out, &pod.explanation.patch)?;
        writeln!(out)?;
    }
    Ok(())
}

impl Explained {
    /// `Pod web`, `Pod of Deployment web`.
    fn title(&self) -> String {
        if self.origin.starts_with("Pod ") || self.origin == "Pod" {
            return self.origin.clone();
        }
        format!("Pod of {}", self.origin)
    }
}

#[derive(Serialize)]
struct Report<'a> {
    pods: Vec<PodReport<'a>>,
}

#[derive(Serialize)]
struct PodReport<'a> {
    namespace: &'a str,
    name: Option<&'a str>,
    containers: Vec<ContainerReport<'a>>,
    patch: &'a json_patch::Patch,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct ContainerReport<'a> {
    name: &'a str,
    kind: &'static str,
    original: &'a str,
    decision: &'static str,
    image: &'a str,
    source: Option<String>,
    policy: Option<&'a str>,
    reason: &'a str,
}

impl<'a> PodReport<'a> {
    fn of(pod: &'a Explained) -> Self {
        let Explanation { namespace, name, containers, patch, warnings } = &pod.explanation;
        let name = name.as_deref().or(pod.name.as_deref());
        Self { namespace, name, containers: containers.iter().map(ContainerReport::of).collect(), patch, warnings }
    }
}

impl<'a> ContainerReport<'a> {
    fn of(container: &'a ExplainedContainer) -> Self {
        let ExplainedContainer { name, kind, original, image, source, policy, reason } = container;
        Self {
            name,
            kind: kind_of(*kind),
            original,
            decision: if source.is_some() { "rewritten" } else { "left-alone" },
            image,
            source: source.as_ref().map(ToString::to_string),
            policy: policy.as_deref(),
            reason,
        }
    }
}

fn kind_of(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Init => "init",
        ContainerKind::Regular => "regular",
        ContainerKind::Ephemeral => "ephemeral",
    }
}
