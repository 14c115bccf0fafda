use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_registry_core::{ContainerFacts, Decision, PodFacts, Verdict};
use cache_registry_policy::built_in::{self, ReleaseSettings};
use cache_registry_policy::{Engine, Policy, Usage};
use cache_registry_webhook::Decide;
use clap::Args;
use tracing::subscriber::{NoSubscriber, with_default};

use crate::Failure;
use crate::host::Host;
use crate::inputs::Inputs;
use crate::policy_file::PolicyFile;
use crate::quantity::time;

/// `cache-registry policy bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// The policy: a component, which may be compressed with gzip or zstd
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Its settings, YAML or JSON
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// For how long requests are made: 3s, 1m
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = time)]
    time: Duration,
    #[command(flatten)]
    host: Host,
}

/// What the policies would be asked about one pod.
type Request = (Arc<PodFacts>, Vec<ContainerFacts>);

/// Takes down what the policies would be asked.
#[derive(Default)]
struct Requests(Mutex<Vec<Request>>);

/// A policy that is measured.
struct Measured {
    policy: Policy,
    compiled_in: Duration,
    starts: Vec<Duration>,
    requests: Vec<Duration>,
    memory: usize,
}

/// Percentiles do not change any more.
const MOST_ROUNDS: usize = 100_000;

impl Bench {
    /// Says what the policy takes for a request about the pods, beside the built-in ones.
    pub(crate) async fn run(self, out: &mut impl Write, notes: &mut impl Write) -> Result<(), Failure> {
        let file = PolicyFile::read(&self.policy, self.settings.as_deref())?;
        let requests = Requests::default();
        self.inputs.explain(&requests, &self.host.node_address, notes).await?;
        let requests = requests.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if requests.is_empty() {
            return Err(Failure::bad_input("no policy is asked about what -f names: its pods are left alone anyway"));
        }

        let engine = self.host.engine()?;
        writeln!(notes, "compiling {}", file.shown)?;
        let began = Instant::now();
        let component = file.compile(&engine)?;
        let compiled_in = began.elapsed();
        let mut measured = vec![Measured::new(file.load(&engine, &component, &file.name)?, compiled_in)];
        for name in built_in::NAMES {
            measured.push(Measured::built_in(&engine, name, &self.host.release_settings())?);
        }

        writeln!(notes, "measuring for {:?}", self.time)?;
        let began = Instant::now();
        let (mut rounds, mut said) = (0, 0);
        while rounds < MOST_ROUNDS && (rounds == 0 || began.elapsed() < self.time) {
            let (pod, containers) = &requests[rounds % requests.len()];
            for one in &mut measured {
                // What policies say is not read here, and writing it takes longer than they do.
                let usage = with_default(NoSubscriber::default(), || engine.usage(&one.policy, pod, containers));
                let usage = usage.map_err(|words| Failure::refused(format_args!("{} {words}", one.policy.name())))?;
                one.takes(usage);
            }
            rounds += 1;
            if began.elapsed().as_secs() > said {
                said = began.elapsed().as_secs();
                writeln!(notes, "{rounds} rounds")?;
            }
        }
        report(&measured, &requests, rounds, out)
    }
}

fn report(measured: &[Measured], requests: &[Request], rounds: usize, out: &mut impl Write) -> Result<(), Failure> {
    let containers: usize = requests.iter().map(|(_, containers)| containers.len()).sum();
    writeln!(
        out,
        "{rounds} requests to each policy on one thread, about {containers} images of {} pods in turn",
        requests.len()
    )?;
    writeln!(out)?;
    let width = measured.iter().map(|one| one.policy.name().chars().count()).max().unwrap_or_default().max(6);
    writeln!(
        out,
        "{:<width$}  {:>10}  {:>10}  {:>12}  {:>9}  {:>10}",
        "policy", "p50", "p99", "instance p50", "memory", "compile"
    )?;
    for one in measured {
        writeln!(
            out,
            "{:<width$}  {:>10}  {:>10}  {:>12}  {:>9}  {:>10}",
            one.policy.name(),
            in_units(percentile(&one.requests, 50)),
            in_units(percentile(&one.requests, 99)),
            in_units(percentile(&one.starts, 50)),
            format!("{} KiB", one.memory >> 10),
            in_units(one.compiled_in),
        )?;
    }
    Ok(())
}

impl Measured {
    fn new(policy: Policy, compiled_in: Duration) -> Self {
        Self { policy, compiled_in, starts: Vec::new(), requests: Vec::new(), memory: 0 }
    }

    fn built_in(engine: &Engine, name: &str, release: &ReleaseSettings) -> Result<Self, Failure> {
        let wasm = built_in::wasm(name).unwrap_or_default();
        let began = Instant::now();
        let component = engine.compile(wasm).map_err(Failure::refused)?;
        let compiled_in = began.elapsed();
        Ok(Self::new(engine.load(name, &component, &release.with(name, "")).map_err(Failure::refused)?, compiled_in))
    }

    fn takes(&mut self, Usage { start, request, memory }: Usage) {
        self.starts.push(start);
        self.requests.push(request);
        self.memory = self.memory.max(memory);
    }
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}

fn in_units(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.001 { format!("{:.1} µs", seconds * 1e6) } else { format!("{:.1} ms", seconds * 1e3) }
}

impl Decide for Requests {
    async fn decide(&self, pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        let decision = Decision::LeftAlone { reason: "it is not decided on".to_owned() };
        let verdict = Verdict { decision, policy: None, cached_by: None, warnings: Vec::new() };
        let verdicts = vec![verdict; containers.len()];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((pod, containers));
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50), Duration::from_micros(100));
        assert_eq!(percentile(&times, 99), Duration::from_micros(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_micros(200));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(in_units(Duration::from_nanos(25_250)), "25.2 µs");
        assert_eq!(in_units(Duration::from_micros(4_100)), "4.1 ms");
    }
}
