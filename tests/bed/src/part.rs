use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::exchange;
use crate::guardian::MARK;
use crate::until;

/// How long a part may take to be ready, on a machine that is busy building.
const LONGEST_START: Duration = Duration::from_mins(1);

/// How many lines of a part's log an error shows.
const TAIL: usize = 15;

/// A program of the bed: how to start it, and the running process if there is one.
///
/// Its output goes to a file in the bed's folder, over all of its starts. Each runs in a process group of its own, so
/// that Ctrl-C in a terminal reaches only the program that holds the bed.
#[derive(Debug)]
pub struct Part {
    name: String,
    folder: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    ready: Ready,
    process: Option<Child>,
}

/// How to see that a part is ready.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    /// It accepts connections here.
    Accepts(SocketAddr),
    /// It accepts connections on this socket.
    AcceptsUnix(PathBuf),
    /// It has made this file.
    Exists(PathBuf),
    /// `GET` of this path at this address is 200.
    Answers(SocketAddr, &'static str),
}

impl Part {
    /// A part that is not started yet.
    pub(crate) fn new(folder: &Path, name: impl Into<String>, program: impl Into<PathBuf>, ready: Ready) -> Self {
        Self {
            name: name.into(),
            folder: folder.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            ready,
            process: None,
        }
    }

    /// With these arguments, after those given before.
    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With this variable in its environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Gives it this variable from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// What it is called, in words and as the name of its log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True while its process runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// The id of its process.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// Starts it if it does not run, and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        if self.runs() {
            return Ok(());
        }
        self.spawn()?;
        self.ready().await
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(MARK, &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{}: {} did not start", self.name, self.program.display()))?;
        self.process = Some(child);
        Ok(())
    }

    /// Waits until it is ready; an error shows the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        let ready = self.ready.clone();
        let waited = until(format!("{} to be ready", self.name), LONGEST_START, async || {
            if !self.runs() {
                return Ok(Some(false));
            }
            Ok(ready.look().await?.then_some(true))
        })
        .await;
        match waited {
            Ok(true) => Ok(()),
            Ok(false) => bail!("{} ended\n{}", self.name, self.log_tail(TAIL)),
            Err(error) => Err(error.context(self.log_tail(TAIL))),
        }
    }

    /// Asks it to end (SIGTERM) and does not wait.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits until it has ended, at most for `bound`.
    pub async fn ended(&mut self, bound: Duration) -> Result<ExitStatus> {
        let process = self.process.as_mut().ok_or_else(|| anyhow!("{} does not run", self.name))?;
        let Ok(status) = timeout(bound, process.wait()).await else {
            bail!("{} did not end within {} s\n{}", self.name, bound.as_secs_f32(), self.log_tail(TAIL));
        };
        self.process = None;
        Ok(status?)
    }

    /// Ends it at once (SIGKILL).
    pub async fn kill(&mut self) -> Result<()> {
        if self.runs() {
            self.signal(Signal::KILL)?;
            let status = self.ended(Duration::from_secs(10)).await?;
            if status.signal().is_none() {
                bail!("{} had ended by itself ({status})\n{}", self.name, self.log_tail(TAIL));
            }
        }
        Ok(())
    }

    /// Stops it from doing anything, its sockets open: connections are accepted by the kernel and never answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let id = id.ok_or_else(|| anyhow!("{} does not run", self.name))?;
        kill_process_group(id, signal).with_context(|| format!("{}: {signal:?}", self.name))
    }

    /// Where its output goes.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that it has written, under a heading.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        let tail = all[all.len().saturating_sub(lines)..].join("\n  ");
        format!("--- the end of {}\n  {tail}", self.log_file().display())
    }
}

impl Ready {
    async fn look(&self) -> Result<bool> {
        match self {
            Self::Accepts(address) => Ok(TcpStream::connect(address).await.map(|_| true)?),
            Self::Exists(path) => Ok(path.exists()),
            Self::AcceptsUnix(path) => Ok(UnixStream::connect(path).await.map(|_| true)?),
            Self::Answers(address, path) => {
                let answer = exchange::get(TcpStream::connect(address).await?, path, &[]).await?;
                if answer.status != 200 {
                    bail!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim());
                }
                Ok(true)
            }
        }
    }
}
