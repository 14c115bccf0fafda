//! However a bed or a cluster ends, nothing of it is left: no process, link, network namespace, mount, control group or
//! file.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A program with its bed up.
struct Running {
    process: Child,
    /// What it goes on to say: nobody reads it, but without a reader it could not.
    _output: BufReader<ChildStdout>,
    /// Where its bed is, and nothing else.
    temporary: TempDir,
    bridge: String,
    /// What of [`SHARED`] was there before.
    shared: Vec<&'static str>,
}

/// Two at once would be slow on a small machine.
static CLUSTERS: Mutex<()> = Mutex::new(());

/// Where the programs of a node keep things, whatever they are told.
const SHARED: [&str; 6] = [
    "/run/containerd/s",
    "/run/xtables.lock",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

impl Running {
    fn demo() -> Result<Self> {
        Self::start(env!("CARGO_BIN_EXE_demo"), "2.")
    }

    fn cluster() -> Result<Self> {
        let cluster = Self::start(env!("CARGO_BIN_EXE_cluster"), "two nodes are ready")?;
        ensure!(!cluster.control_groups()?.is_empty(), "this test looks at nothing");
        Ok(cluster)
    }

    /// Starts a program, and waits for the line that says that its bed is up.
    fn start(program: &str, up: &str) -> Result<Self> {
        let (shared, temporary) = (shared(), TempDir::new()?);
        let mut process = Command::new(program).env("TMPDIR", temporary.path()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(process.stdout.take().context("no output")?);
        let is_up = output.by_ref().lines().map_while(Result::ok).any(|line| line.starts_with(up));
        ensure!(is_up, "{program} ended before its bed was up");
        let bridge = fs::read_to_string(folder(temporary.path())?.join("bridge"))?.trim().to_owned();
        ensure!(link(&bridge).exists() && !processes(temporary.path())?.is_empty(), "this test looks at nothing");
        Ok(Self { process, _output: output, temporary, bridge, shared })
    }

    /// The control groups of its nodes, in which pods are.
    fn control_groups(&self) -> Result<Vec<String>> {
        let root = Path::new("/sys/fs/cgroup");
        let mut found = Vec::new();
        for hierarchy in fs::read_dir(root)?.map_while(Result::ok).map(|entry| entry.path()).chain([root.to_owned()]) {
            let groups = ["a", "b"].map(|node| hierarchy.join(format!("{}-{node}", self.bridge)));
            found.extend(groups.iter().filter(|group| group.exists()).map(|group| group.display().to_string()));
        }
        Ok(found)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(self.process.id().try_into()?).context("no process id")?;
        Ok(kill_process(id, signal)?)
    }

    /// Waits until nothing of it is left.
    fn is_gone(&self) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(20);
        let started = Instant::now();
        loop {
            let left = self.left()?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(started.elapsed() < LONGEST, "still there: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn left(&self) -> Result<Vec<String>> {
        let temporary = self.temporary.path();
        let mut left: Vec<String> = processes(temporary)?.into_iter().map(|id| format!("process {id}")).collect();
        let files = fs::read_dir(temporary)?.chain(fs::read_dir("/sys/class/net")?).chain(fs::read_dir("/run/netns")?);
        for file in files {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ours = name == self.bridge || name.starts_with(&format!("{}-", self.bridge));
            if ours || path.starts_with(temporary) {
                left.push(path.display().to_string());
            }
        }
        let mounts = fs::read_to_string("/proc/mounts")?;
        let inside = temporary.display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&inside)).map(ToOwned::to_owned));
        left.extend(self.control_groups()?);
        left.extend(shared().into_iter().filter(|path| !self.shared.contains(path)).map(ToOwned::to_owned));
        Ok(left)
    }
}

fn shared() -> Vec<&'static str> {
    SHARED.into_iter().filter(|path| Path::new(path).exists()).collect()
}

fn folder(temporary: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(temporary)?;
    Ok(entries.next().context("the bed has no folder")??.path())
}

fn link(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

/// The processes that carry the mark of a bed under this folder.
fn processes(temporary: &Path) -> Result<Vec<String>> {
    let mark = format!("CACHE_REGISTRY_BED={}", temporary.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Most of /proc is no process, and a process may end at any time.
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[test]
fn nothing_is_left_of_a_bed_whose_program_was_killed() -> Result<()> {
    is_gone_after_kill(Running::demo()?)
}

#[test]
fn nothing_is_left_after_ctrl_c() -> Result<()> {
    is_gone_after_ctrl_c(Running::demo()?, 130)
}

#[test]
fn nothing_is_left_of_a_cluster_whose_program_was_killed() -> Result<()> {
    let _turn = CLUSTERS.lock();
    is_gone_after_kill(Running::cluster()?)
}

#[test]
fn nothing_is_left_of_a_cluster_after_ctrl_c() -> Result<()> {
    let _turn = CLUSTERS.lock();
    is_gone_after_ctrl_c(Running::cluster()?, 0)
}

fn is_gone_after_kill(mut running: Running) -> Result<()> {
    running.signal(Signal::KILL)?;
    assert_eq!(running.process.wait()?.signal(), Some(9));
    running.is_gone()
}

fn is_gone_after_ctrl_c(mut running: Running, code: i32) -> Result<()> {
    running.signal(Signal::INT)?;
    assert_eq!(running.process.wait()?.code(), Some(code));
    assert_eq!(running.left()?, Vec::<String>::new(), "it ended before all was gone");
    Ok(())
}
