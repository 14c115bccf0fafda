use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use tempfile::TempDir;

/// The variable by which a process is known to belong to a bed; its value is the bed's folder.
pub(crate) const MARK: &str = "CACHE_REGISTRY_BED";

/// How long taking a bed away may last.
const LONGEST_END: Duration = Duration::from_secs(20);

/// A process of its own that takes away what the bed leaves, however the bed ends.
///
/// It waits for the end of its standard input, which the kernel closes even when the bed is killed. On a panic, on
/// Ctrl-C and on the regular way out the same script runs, so there is one way to clean up and it is always tested.
#[derive(Debug)]
pub(crate) struct Guardian {
    folder: PathBuf,
    number: u8,
    process: Child,
    standard_input: Option<ChildStdin>,
    kept: bool,
}

impl Guardian {
    /// Makes the bed's folder and the process that guards it.
    pub(crate) fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("cache-registry-bed.").context("no folder for the bed")?.keep();
        let mut process = Command::new("sh")
            .args(["-c", include_str!("guardian.sh"), "guardian"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches a terminal's process group; the guardian must outlive it.
            .process_group(0)
            .spawn()
            .context("the guardian did not start")?;
        let (Some(standard_input), Some(standard_output)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the guardian has no pipes");
        };
        let mut number = String::new();
        BufReader::new(standard_output).read_line(&mut number).context("the guardian said nothing")?;
        let number = number.trim().parse().context(
            "the bed needs root, and a kernel with bridges and network namespaces; what went wrong is printed above",
        )?;
        Ok(Self { folder, number, process, standard_input: Some(standard_input), kept: false })
    }

    /// Where everything of this bed is: sockets, logs, data.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// 1 to 250, of no other bed that is up.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Lets the bed outlive this program, until the process whose id is returned gets a SIGTERM.
    pub(crate) fn keep(&mut self) -> Result<u32> {
        if let Some(input) = &mut self.standard_input {
            writeln!(input, "keep").context("the guardian is gone")?;
        }
        self.kept = true;
        Ok(self.process.id())
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.standard_input = None;
        if self.kept {
            return;
        }
        let started = Instant::now();
        while started.elapsed() < LONGEST_END && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
