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
        let program = match self {
            Self::V1 => PathBuf::from("/usr/bin/containerd"),
            Self::V2 => tools.path("containerd"),
        };
        let name = format!("{node}-containerd");
        let files = Files { folder: folder.join(&name), socket: folder.join(format!("{node}.sock")) };
        fs::create_dir_all(files.folder.join("cni"))?;
        let file = files.folder.join("config.toml");
        fs::write(
            &file,
            match self {
                Self::V1 => v1(&files),
                Self::V2 => v2(&files),
            },
        )?;
        let part = Part::new(folder, name, "nsenter", Ready::AcceptsUnix(files.socket.clone()))
            .args([format!("--net={}", namespace.path())])
            .args(["unshare", "--mount", "--propagation", "private"])
            .args([program, "--config".into(), file]);
        Ok((part, files.socket))
    }
}

struct Files {
    folder: PathBuf,
    socket: PathBuf,
}

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
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
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
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
conf_dir = "{folder}/cni"
"#
    )
}
