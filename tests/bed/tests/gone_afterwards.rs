//! However a bed ends, nothing of it is left: no process, link, network namespace, mount or file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The demo, with its bed up.
struct Demo {
    process: Child,
    /// Where its bed is, and nothing else.
    temporary: TempDir,
    bridge: String,
}

impl Demo {
    fn start() -> Result<Self> {
        let temporary = TempDir::new()?;
        let mut process =
            Command::new(env!("CARGO_BIN_EXE_demo")).env("TMPDIR", temporary.path()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("no output")?;
        let up = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.starts_with("2."));
        ensure!(up, "the demo ended before its bed was up");
        let bridge = fs::read_to_string(folder(temporary.path())?.join("bridge"))?.trim().to_owned();
        ensure!(link(&bridge).exists() && !processes(temporary.path())?.is_empty(), "this test looks at nothing");
        Ok(Self { process, temporary, bridge })
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
        Ok(left)
    }
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
    let mut demo = Demo::start()?;
    demo.signal(Signal::KILL)?;
    assert_eq!(demo.process.wait()?.signal(), Some(9));
    demo.is_gone()
}

#[test]
fn nothing_is_left_after_ctrl_c() -> Result<()> {
    let mut demo = Demo::start()?;
    demo.signal(Signal::INT)?;
    assert_eq!(demo.process.wait()?.code(), Some(130));
    assert_eq!(demo.left()?, Vec::<String>::new(), "it ended before all was gone");
    Ok(())
}
