use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use cache_registry_policy::{Engine, Member, Metrics, Observer, Policies, PolicySet, built_in};
use clap::{Args, ValueEnum};
use prometheus_client::registry::Registry;

use crate::host::Host;
use crate::inputs::Inputs;
use crate::policy_file::PolicyFile;
use crate::{Failure, report};

/// `cache-registry policy run`
#[derive(Debug, Args)]
pub struct Run {
    /// Policies to ask before the built-in ones, in this order: components, which may be compressed with gzip or zstd.
    /// Without any, the built-in ones alone
    #[arg(value_name = "POLICY")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    inputs: Inputs,
    /// Settings, YAML or JSON. Given several times, the first is for the first POLICY, the second for the second, …;
    /// an empty file is for one without
    #[arg(long, value_name = "FILE")]
    settings: Vec<PathBuf>,
    /// For people, for programs, or the JSON patch of each pod on a line
    #[arg(short, long, default_value = "text")]
    output: Output,
    #[command(flatten)]
    host: Host,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
    Patch,
}

impl Run {
    /// Says for each container which policy decides what, and why.
    pub(crate) async fn run(self, out: &mut impl Write, notes: &mut impl Write) -> Result<(), Failure> {
        let engine = self.host.engine()?;
        // A policy that is refused is one more input that is not what it should be.
        let policies = self.set(&engine).map_err(Failure::bad_input)?;
        let explained = self.inputs.explain(&policies, &self.host.node_address, notes).await?;
        match self.output {
            Output::Text => report::text(&explained, out)?,
            Output::Json => report::json(&explained, out)?,
            Output::Patch => report::patches(&explained, out)?,
        }
        Ok(())
    }

    fn set(&self, engine: &Engine) -> Result<Policies, Failure> {
        if self.settings.len() > self.policies.len() {
            return Err(Failure::bad_input(format_args!(
                "--settings is given {} times, and there are {} policies: each belongs to one",
                self.settings.len(),
                self.policies.len()
            )));
        }
        let mut members: Vec<Member> = Vec::new();
        for (index, path) in self.policies.iter().enumerate() {
            let file = PolicyFile::read(path, self.settings.get(index).map(PathBuf::as_path))?;
            let mut name = file.name.clone();
            // What is said of one must not be taken for another's.
            if built_in::NAMES.contains(&&*name) || members.iter().any(|member| member.policy.name() == name) {
                name = format!("{name}-{}", index + 1);
            }
            members.push(Arc::new(file.load(engine, &file.compile(engine)?, &name)?).into());
        }
        let built_in = built_in::load_for(engine, &self.host.release_settings()).map_err(Failure::refused)?;
        members.extend(built_in.map(Member::from));
        let observer = Observer::from(Metrics::register(&mut Registry::default()));
        Ok(Policies::new(PolicySet::new(engine.clone(), members, observer).map_err(Failure::bad_input)?))
    }
}
