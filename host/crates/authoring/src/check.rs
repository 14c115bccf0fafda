use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use cache_registry_configmaps::{EncodeError, NewConfigMap, encode};
use clap::Args;

use crate::Failure;
use crate::host::Host;
use crate::policy_file::PolicyFile;

/// `cache-registry policy check`
#[derive(Debug, Args)]
pub struct Check {
    /// The policy: a component, which may be compressed with gzip or zstd
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Its settings, YAML or JSON
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    host: Host,
}

impl Check {
    /// Says what the policy is and whether the host would have it.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let file = PolicyFile::read(&self.policy, self.settings.as_deref())?;
        let engine = self.host.engine()?;
        let mut line = |key: &str, value: &dyn Display| writeln!(out, "{key:<10} {value}");
        line("policy", &file.shown)?;
        let began = Instant::now();
        let component = file.compile(&engine)?;
        let compiled = began.elapsed();
        line("digest", component.digest())?;
        line("size", &format_args!("{} bytes", component.size()))?;
        line("", &fits(&file))?;
        for (key, mut names) in [("exports", component.exports()), ("imports", component.imports())] {
            names.sort();
            for (index, name) in names.iter().enumerate() {
                line(if index == 0 { key } else { "" }, name)?;
            }
        }
        line("compiled", &format_args!("in {} ms", compiled.as_millis()))?;
        let policy = file.load(&engine, &component, &file.name)?;
        let decides = match (policy.filters(), policy.rewrites()) {
            (true, true) => "which images are cached, and under which reference nodes pull them",
            (true, false) => "which images are cached",
            (false, _) => "under which reference nodes pull what is cached",
        };
        line("decides", &decides)?;
        let settings = match (component.checks(), &file.settings) {
            (true, Some(_)) => "accepted",
            (true, None) => "none, which it accepts",
            (false, Some(_)) => "given, and it does not check them",
            (false, None) => "none",
        };
        line("settings", &settings)?;
        line("result", &"the host takes it")?;
        Ok(())
    }
}

/// What a `ConfigMap` would have of it.
fn fits(file: &PolicyFile) -> String {
    let new = NewConfigMap {
        name: "policy",
        namespace: None,
        component: &file.bytes,
        settings: file.settings.as_deref(),
        priority: None,
        on_error: None,
    };
    match encode(&new) {
        Ok(yaml) => format!("fits into a ConfigMap, which has {} bytes of YAML", yaml.len()),
        Err(EncodeError::TooLarge { size }) => {
            format!("{size} bytes compressed: too large for a ConfigMap; see cache-registry policy push --help")
        }
        Err(error) => error.to_string(),
    }
}
