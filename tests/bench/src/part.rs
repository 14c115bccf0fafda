use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};

/// A server under measurement. It and its children end when it is dropped, and when this program ends in any way.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    address: SocketAddr,
    log: PathBuf,
    child: Child,
}

const LONGEST_START: Duration = Duration::from_secs(20);
const LONGEST_END: Duration = Duration::from_secs(3);

impl Part {
    /// Starts a program and waits until it accepts connections at `address`. Its output goes to a file in `folder`.
    pub(crate) async fn start(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        address: SocketAddr,
        folder: &Path,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new("setpriv")
            // The kernel's own way to end it with us, also when we are killed.
            .args(["--pdeathsig", "TERM"])
            .arg(program)
            .args(arguments)
            .env("OTEL_TRACES_EXPORTER", "none")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal is for us; the group is what is ended when this is dropped.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name}: setpriv (package util-linux) did not start {}", program.display()))?;
        let mut part = Self { name, address, log, child };
        part.ready().await?;
        Ok(part)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > LONGEST_START {
                bail!("{} is not up at {} ({ended:?})\n{}", self.name, self.address, self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Everything that it has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lets all of its threads, and those that they start, run on these CPUs only.
    pub(crate) fn pin(&self, cpus: &[usize]) -> Result<()> {
        for process in self.processes()? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.file_name().to_string_lossy().parse()?;
                match sched_setaffinity(Pid::from_raw(thread), &cpu_set(cpus)) {
                    // A thread that has ended meanwhile.
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(io::Error::from(error)).context("sched_setaffinity"),
                }
            }
        }
        Ok(())
    }

    /// Resident memory of its processes now, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that its processes had since [`forget_peak`](Self::forget_peak), summed, in MiB.
    pub(crate) fn peak(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// Begins to measure the peak anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        for process in self.processes()? {
            // proc(5): 5 resets the peak resident set size.
            fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak of memory cannot be reset")?;
        }
        Ok(())
    }

    /// User and system time of its processes so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let ticks_per_second = f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?);
        let mut ticks = 0;
        for process in self.processes()? {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            // The name, in parentheses, may itself hold spaces; utime and stime are the 14th and 15th fields.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let times = fields.split_whitespace().skip(11).take(2);
            ticks += times.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        }
        Ok(f64::from(ticks) / ticks_per_second)
    }

    fn status(&self, field: &str) -> Result<f64> {
        let mut kib = 0;
        for process in self.processes()? {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let value = line.and_then(|line| line.split_whitespace().next());
            kib += value.with_context(|| format!("no {field} of {}", self.name))?.parse::<u32>()?;
        }
        Ok(f64::from(kib) / 1024.0)
    }

    /// It and its children: nginx has a master and workers.
    fn processes(&self) -> Result<Vec<u32>> {
        let main = self.child.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children"))
            .with_context(|| format!("{} is gone\n{}", self.name, self.log()))?;
        let children: Result<Vec<u32>, _> = children.split_whitespace().map(str::parse).collect();
        Ok([main].into_iter().chain(children?).collect())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Nothing is left to signal where it has ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A loopback address that nobody has.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Lets the calling thread, and those that it starts, run on these CPUs only.
pub(crate) fn pin_this_thread(cpus: &[usize]) -> Result<()> {
    sched_setaffinity(None, &cpu_set(cpus)).map_err(io::Error::from).context("sched_setaffinity")
}

fn cpu_set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    set
}
