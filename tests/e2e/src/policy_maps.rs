use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_registry_api::labels::{IMAGES_ANNOTATION, POLICY_LABEL, POLICY_VALUE};
use cache_registry_api::{ImagesAnnotation, Outcome};
use cache_registry_bed::{Bed, NAMESPACE, image_of, until};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

/// `ConfigMap`s of policies, as a person brings them with kubectl, and `/policies`, where a person sees what became of
/// them.
#[derive(Clone, Copy)]
pub struct PolicyMaps<'a>(&'a Bed);

/// How long a policy may take to be in force. It is far less; the machine may be busy with other tests.
const LONGEST_LOAD: Duration = Duration::from_secs(30);

/// How long a program may take.
const LONGEST_PROGRAM: Duration = Duration::from_mins(1);

impl<'a> PolicyMaps<'a> {
    /// Those of a bed.
    pub fn of(bed: &'a Bed) -> Self {
        Self(bed)
    }

    /// Takes out what an earlier test has left, and waits until the built-in policies are alone.
    pub async fn clear(self) -> Result<()> {
        let selector = format!("{POLICY_LABEL}={POLICY_VALUE}");
        self.kubectl(&["delete", "configmap", "--selector", &selector]).await?;
        self.becomes(0, "the built-in set alone", |rows| {
            rows.len() == 2 && rows.iter().all(|row| row["origin"] == "built-in")
        })
        .await?;
        Ok(())
    }

    /// `kubectl create configmap`, without the label that makes a policy of it.
    pub async fn create(self, name: &str, component: &[u8]) -> Result<()> {
        let file = self.file(name, component)?;
        let from = format!("--from-file=policy.wasm={}", file.display());
        self.kubectl(&["create", "configmap", name, &from]).await?;
        Ok(())
    }

    /// `kubectl label`, with which it becomes a policy.
    pub async fn label(self, name: &str) -> Result<()> {
        self.kubectl(&["label", "configmap", name, &format!("{POLICY_LABEL}={POLICY_VALUE}")]).await?;
        Ok(())
    }

    /// Both, and waits until it is in force.
    pub async fn bring(self, name: &str, component: &[u8]) -> Result<Value> {
        self.create(name, component).await?;
        self.label(name).await?;
        self.in_force(name).await
    }

    /// A `ConfigMap` with texts only, labelled.
    pub async fn apply(self, name: &str, data: &Value) -> Result<()> {
        let configmap = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": name, "labels": { POLICY_LABEL: POLICY_VALUE } },
            "data": data,
        });
        let file = self.file(name, configmap.to_string().as_bytes())?;
        self.kubectl(&["apply", "--filename", &file.display().to_string()]).await?;
        Ok(())
    }

    /// Replaces what is in it, as `kubectl create --dry-run -o yaml | kubectl replace` does.
    pub async fn replace(self, name: &str, component: &[u8]) -> Result<()> {
        let encoded = k8s_openapi::ByteString(component.to_vec());
        self.patch(name, &json!({ "binaryData": { "policy.wasm": encoded } })).await
    }

    /// Changes some of its texts; null removes one.
    pub async fn set(self, name: &str, data: &Value) -> Result<()> {
        self.patch(name, &json!({ "data": data })).await
    }

    async fn patch(self, name: &str, patch: &Value) -> Result<()> {
        let file = self.file(&format!("{name}.patch"), patch.to_string().as_bytes())?;
        let file = format!("--patch-file={}", file.display());
        self.kubectl(&["patch", "configmap", name, "--type=merge", &file]).await?;
        Ok(())
    }

    /// Deletes it.
    pub async fn delete(self, name: &str) -> Result<()> {
        self.kubectl(&["delete", "configmap", name]).await?;
        Ok(())
    }

    /// What `kubectl describe` shows of it, once that has these words. Where an Event wraps, they are one line.
    pub async fn described(self, name: &str, words: &str) -> Result<String> {
        until(format!("`kubectl describe configmap {name}` to show {words:?}"), LONGEST_LOAD, async || {
            let shown = self.kubectl(&["describe", "configmap", name]).await?;
            if shown.contains(words) {
                return Ok(Some(shown));
            }
            // The component is not for reading.
            let (_, events) = shown.split_once("\nEvents:").context("it shows no Events")?;
            bail!("it shows {events}")
        })
        .await
    }

    /// What `/policies` of a replica shows.
    pub async fn shown(self, replica: u8) -> Result<Vec<Value>> {
        let answer = self.0.webhook_admin(replica, "/policies").await?;
        ensure!(answer.status == 200, "/policies: {}", answer.status);
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Waits until `/policies` shows what is looked for, and returns it.
    pub async fn becomes(self, replica: u8, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        until(format!("/policies to show {what}"), LONGEST_LOAD, async || {
            let rows = self.shown(replica).await?;
            if is_so(&rows) {
                return Ok(Some(rows));
            }
            bail!("it shows {}", Value::from(rows))
        })
        .await
    }

    /// Waits until a `ConfigMap`'s newest version is in force, and returns its row of `/policies`.
    pub async fn in_force(self, name: &str) -> Result<Value> {
        self.row(name, "in force", |row| row["state"] == "in-force" && row.get("lastError").is_none()).await
    }

    /// Waits until a `ConfigMap`'s newest version is refused for this reason, and returns its row of `/policies`.
    pub async fn refused(self, name: &str, reason: &str) -> Result<Value> {
        self.row(name, &format!("refused ({reason})"), |row| row["lastError"]["reason"] == reason).await
    }

    /// The same for one that takes a while to be compiled.
    pub async fn in_force_within(self, name: &str, bound: Duration) -> Result<Value> {
        let origin = format!("configmap/{name}");
        until(format!("{name} to be in force"), bound, async || {
            let row = self.shown(0).await?.into_iter().find(|row| row["origin"] == origin);
            let row = row.context("there is nothing of it")?;
            if row["state"] == "in-force" { Ok(Some(row)) } else { bail!("it is {row}") }
        })
        .await
    }

    async fn row(self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let origin = format!("configmap/{name}");
        let is_it = |row: &&Value| row["origin"] == origin && is_so(row);
        let rows = self.becomes(0, &format!("{name} {what}"), |rows| rows.iter().any(|row| is_it(&row))).await?;
        rows.into_iter().find(|row| is_it(&row)).context("it was there a moment ago")
    }

    /// Waits until nothing is known of a `ConfigMap`.
    pub async fn gone(self, name: &str) -> Result<()> {
        let origin = format!("configmap/{name}");
        self.becomes(0, &format!("nothing of {name}"), |rows| rows.iter().all(|row| row["origin"] != origin)).await?;
        Ok(())
    }

    /// kubectl in the release's namespace.
    pub async fn kubectl(self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<_> = ["--namespace", NAMESPACE].into_iter().chain(arguments.iter().copied()).collect();
        self.0.kubectl(&arguments).await
    }

    /// `cache-registry policy push`, in the name of somebody with this Docker configuration. Returns the digest.
    pub async fn push(self, component: &[u8], reference: &str, docker_config: &Value) -> Result<String> {
        let component = self.file("pushed.wasm", component)?;
        let config = self.0.folder().join("docker-config");
        fs::create_dir_all(&config)?;
        fs::write(config.join("config.json"), docker_config.to_string())?;
        let mut push = Command::new(self.0.cache_registry());
        push.args(["policy", "push"]).arg(component).arg(reference);
        push.arg("--registries").arg(self.0.registries_file()).env("DOCKER_CONFIG", config);
        let output = run(&mut push).await?;
        let pushed = String::from_utf8(output.stdout)?;
        let digest = pushed.lines().next().and_then(|line| line.rsplit_once('@'));
        Ok(digest.with_context(|| format!("it prints no digest: {pushed}"))?.1.to_owned())
    }

    /// Creates a pod by kubectl in the namespace `default`; what it says on standard error: warnings.
    pub async fn create_pod(self, name: &str, image: &str) -> Result<String> {
        let mut create = Command::new(self.0.kubectl_program());
        create.env("KUBECONFIG", self.0.control_plane.kubeconfig());
        create.args(["run", name, "--image", image, "--restart=Never"]);
        let output = run(&mut create).await?;
        Ok(String::from_utf8(output.stderr)?)
    }

    fn file(self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.0.folder().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }
}

/// The image of the pods that are tried.
pub const TRIED_IMAGE: &str = "nginx:1.27";

/// What the API server stores of a new pod in the namespace `default`: its image where that was rewritten, and else why
/// it was not.
pub async fn next_pod(bed: &Bed, name: &str) -> Result<Result<String, String>> {
    let stored = bed.objects().create_pod(name, TRIED_IMAGE).await?;
    let annotation = stored.annotations().get(IMAGES_ANNOTATION).context("the webhook was not asked")?;
    outcome_of(annotation, image_of(&stored, "main")?)
}

/// What the record of a pod's one image says: that it is `image`, or why it was left alone.
pub fn outcome_of(annotation: &str, image: &str) -> Result<Result<String, String>> {
    let images: ImagesAnnotation = annotation.parse()?;
    let entry = images.0.values().next().context("no image")?;
    Ok(match &entry.outcome {
        Outcome::LeftAlone(reason) => Err(reason.clone()),
        Outcome::Rewritten(_) => Ok(image.to_owned()),
    })
}

/// Runs a program to its end, which has to be a good one.
async fn run(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    let Ok(output) = timeout(LONGEST_PROGRAM, command.output()).await else {
        bail!("{shown}: not within {} s", LONGEST_PROGRAM.as_secs());
    };
    let output = output.with_context(|| shown.clone())?;
    ensure!(output.status.success(), "{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(output)
}
