use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::network::Namespace;
use crate::part::{Part, Ready};
use crate::tools::Tools;

/// A node's container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containerd {
    /// Debian's 1.6: plain HTTP for a loopback host.
    V1,
    /// The 2.x that `tests/tools/go.mod` pins: TLS first for a loopback host with a port, then plain HTTP.
    V2,
}

impl Containerd {
    /// A containerd of its own for one node, in its network namespace and in a mount namespace that takes its mounts
    /// along when it ends. Returns it with its socket.
    pub(crate) fn part(
        self,
        folder: &Path,
        tools: &Tools,
        namespace: &Namespace,
        node: &str,
    ) -> Result<(Part, PathBuf)> {
        let name = format!("{node}-containerd");
        let files = Files { folder: folder.join(&name), socket: folder.join(format!("{node}.sock")) };
        let file = self.configure(&files, None)?;
        let part = namespace
            .part(folder, name, "unshare".into(), Ready::AcceptsUnix(files.socket.clone()))
            .args(["--mount", "--propagation", "private"])
            .args([self.program(tools), "--config".into(), file]);
        Ok((part, files.socket))
    }

    /// The program.
    pub(crate) fn program(self, tools: &Tools) -> PathBuf {
        match self {
            Self::V1 => PathBuf::from("/usr/bin/containerd"),
            Self::V2 => tools.path("containerd"),
        }
    }

    /// Its `PATH`, in which it finds the shim that is made for it.
    pub(crate) fn search_path(self, tools: &Tools) -> Result<OsString> {
        let others = env::var_os("PATH").unwrap_or_default();
        Ok(match self {
            Self::V1 => others,
            Self::V2 => env::join_paths([tools.path("")].into_iter().chain(env::split_paths(&others)))?,
        })
    }

    /// Writes its configuration and returns the file. `hosts` is a folder of `hosts.toml` files, by which it reaches
    /// registries (<https://github.com/containerd/containerd/blob/main/docs/hosts.md>).
    pub(crate) fn configure(self, files: &Files, hosts: Option<&Path>) -> Result<PathBuf> {
        fs::create_dir_all(files.cni())?;
        let (mut text, images) = match self {
            Self::V1 => (v1(files), "io.containerd.grpc.v1.cri"),
            Self::V2 => (v2(files), "io.containerd.cri.v1.images"),
        };
        if let Some(hosts) = hosts {
            writeln!(text, "[plugins.\"{images}\".registry]\nconfig_path = \"{}\"", hosts.display())?;
        }
        let file = files.folder.join("config.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// Where a containerd has its things.
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Files {
    /// The folder of its network configurations.
    pub(crate) fn cni(&self) -> PathBuf {
        self.folder.join("cni")
    }
}

/// The image of a pod's first process, which holds its namespaces.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// Where Debian's containernetworking-plugins are.
const CNI_PLUGINS: &str = "/usr/lib/cni";

// Turned off: what looks for devices, folders or networks outside the bed. `restrict_oom_score_adj`: a machine without
// CAP_SYS_RESOURCE starts no sandbox otherwise.

fn v1(files: &Files) -> String {
    let (folder, socket) = (files.folder.display(), files.socket.display());
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{folder}/cni"
"#
    )
}

fn v2(files: &Files) -> String {
    let (folder, socket) = (files.folder.display(), files.socket.display());
    format!(
        r#"version = 3
root = "{folder}/root"
state = "{folder}/state"
imports = []
disabled_plugins = [
  "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_PLUGINS}"]
conf_dir = "{folder}/cni"
"#
    )
}
