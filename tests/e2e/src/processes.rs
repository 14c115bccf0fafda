//! Processes of pods: on this machine, whatever namespaces they are in.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// The processes of a pod whose command line begins with these words.
pub fn processes_of(pod_uid: &str, command: &[&str]) -> Vec<Pid> {
    let command = command.join("\0") + "\0";
    let is_it = |folder: &Path| {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        read("cmdline").starts_with(&command) && read("cgroup").contains(pod_uid)
    };
    let id = |folder: PathBuf| folder.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw);
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    all.filter(|folder| is_it(folder)).filter_map(id).collect()
}
