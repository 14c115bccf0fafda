use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_bed::cluster::{Cluster, Options};
use cache_registry_bed::until;
use cache_registry_e2e::release::{NAMESPACE, install_with, volume};
use cache_registry_e2e::{Tally, all_is_whole, cache, processes_of, pulls_during, stock};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::Found;

/// Run by hand alone. What is not in use goes at once, and tags are looked at every second.
const SETTINGS: [&str; 5] = [
    "registry.persistence.enabled=true,registry.persistence.keep=false",
    "registry.garbageCollectionSchedule=0 3 * * 0,registry.garbageCollection.suspend=true",
    "registry.garbageCollection.untaggedAfter=1ms,cachedImagesExpiryDelay=0",
    "controllers.updateInterval=1s,controllers.platforms=all",
    "log.format=text",
];

/// Where the drills take place: a cluster with the chart installed, and images in use.
pub(crate) struct Place {
    pub(crate) cluster: Cluster,
    /// The registry's volume.
    pub(crate) volume: PathBuf,
}

impl Place {
    pub(crate) async fn start() -> Result<Self> {
        let options = Options { registries: vec!["ghcr.io".to_owned()], ..Options::default() };
        let cluster = Cluster::start(options).await?;
        let volume = volume(&cluster).await?;
        install_with(&cluster, &SETTINGS).await?;
        let place = Self { cluster, volume };
        place.use_stock().await?;
        for kept in stock()? {
            cache(&place.cluster, &kept, false).await?;
        }
        place.is_whole().await?;
        Ok(place)
    }

    /// A `CronJob` that names them and never runs: in use, and without a pod.
    async fn use_stock(&self) -> Result<()> {
        let mut containers = Vec::new();
        for kept in stock()? {
            for (tag, source) in kept.tags.iter().zip(kept.sources()) {
                let name = format!("{}-{}", kept.repository.replace('/', "-"), tag.replace('.', "-"));
                containers.push(json!({ "name": name, "image": source }));
            }
        }
        let template = json!({ "spec": { "restartPolicy": "Never", "containers": containers } });
        let user = json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": { "name": "user", "namespace": "default" },
            "spec": {
                "schedule": "0 0 1 1 *",
                "suspend": true,
                "jobTemplate": { "spec": { "template": template } },
            },
        });
        self.cluster.apply(&user.to_string()).await
    }

    /// Pulls on both nodes for as long as something happens.
    pub(crate) async fn pulls<T>(&self, happens: impl Future<Output = Result<T>>) -> Result<(T, Tally)> {
        pulls_during(&self.cluster, happens).await
    }

    /// The same, for what needs no words.
    pub(crate) async fn found(&self, happens: impl Future<Output = Result<()>>) -> Result<Found> {
        let ((), tally) = self.pulls(happens).await?;
        Ok(Found { tally, note: String::new() })
    }

    /// Brings everything back up that a drill has broken.
    pub(crate) async fn heal(&mut self) -> Result<()> {
        self.cluster.heal().await?;
        for (tag, kept) in stock()?.iter().flat_map(|kept| kept.tags.iter().map(move |tag| (*tag, kept))) {
            self.cluster.upstream.add(kept.repository, tag, &kept.image).await?;
        }
        self.is_cached().await
    }

    /// Waits until the registry has all of it as upstream has it.
    pub(crate) async fn is_cached(&self) -> Result<()> {
        for kept in stock()? {
            let digest = kept.image.digest().to_string();
            for source in kept.sources() {
                until(format!("{source} to be in the registry"), Duration::from_mins(2), async || {
                    let image = self.cluster.objects().cached(&source).await?;
                    let status = image.status.context("no status")?;
                    ensure!(status.digest.as_deref() == Some(&digest), "it has {:?}", status.digest);
                    let tag = source.rsplit_once(':').context("no tag")?.1;
                    ensure!(self.tag(kept.repository, tag).exists(), "its tag is not on the volume");
                    Ok(Some(()))
                })
                .await?;
            }
        }
        Ok(())
    }

    /// The folder of a tag on the volume.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> PathBuf {
        let repositories = self.volume.join("docker/registry/v2/repositories/docker.io");
        repositories.join(repository).join("_manifests/tags").join(tag)
    }

    pub(crate) async fn is_whole(&self) -> Result<()> {
        all_is_whole(&self.cluster).await
    }

    /// The pods of a role.
    pub(crate) async fn pods(&self, role: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        Ok(pods.list(&ListParams::default().labels(&format!("app.kubernetes.io/component={role}"))).await?.items)
    }

    /// The pods of a Job.
    pub(crate) async fn pods_of_job(&self, job: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        Ok(pods.list(&ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"))).await?.items)
    }

    /// The processes of a role that have this command line.
    pub(crate) async fn processes(&self, role: &str, command: &[&str]) -> Result<Vec<Pid>> {
        let pods = self.pods(role).await?;
        Ok(pods.iter().filter_map(ResourceExt::uid).flat_map(|uid| processes_of(&uid, command)).collect())
    }

    /// Sends them a signal, and says which they are.
    pub(crate) async fn signal(&self, role: &str, command: &[&str], signal: Signal) -> Result<Vec<Pid>> {
        let all = self.processes(role, command).await?;
        ensure!(!all.is_empty(), "no process of the {role} runs");
        for process in &all {
            kill_process(*process, signal)?;
        }
        Ok(all)
    }

    /// What a person would look at when something is wrong.
    pub(crate) async fn state(&mut self) -> String {
        self.cluster.state().await
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
            // The registry's user has to be able to go on from there.
            let owner = std::os::unix::fs::MetadataExt::uid(&entry.metadata()?);
            std::os::unix::fs::chown(&to, Some(owner), Some(owner))?;
        }
    }
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(from)?);
    std::os::unix::fs::chown(to, Some(owner), Some(owner))?;
    Ok(())
}
