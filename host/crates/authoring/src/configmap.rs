use std::io::Write;
use std::path::PathBuf;

use cache_registry_api::policy_keys::{LEAVE, PASS};
use cache_registry_configmaps::{EncodeError, NewConfigMap, encode};
use cache_registry_policy::OnError;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use crate::Failure;
use crate::host::Host;
use crate::policy_file::PolicyFile;

/// `cache-registry policy configmap`
#[derive(Debug, Args)]
pub struct ConfigMap {
    /// The policy: a component, which may be compressed with gzip or zstd
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Name of the ConfigMap and of the policy
    #[arg(long)]
    name: String,
    /// The release's namespace; without it, kubectl decides
    #[arg(short, long)]
    namespace: Option<String>,
    /// The policy's place: lower ones are asked first, the built-in ones are at 1000000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// What becomes of an image about which the policy fails: leave it as it is, or pass it to the next policy
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new([LEAVE, PASS]).map(|what| on_error(&what)))]
    on_error: Option<OnError>,
    /// Its settings, YAML or JSON
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    host: Host,
}

impl ConfigMap {
    /// Writes what `kubectl apply` takes, if the host takes the policy.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let file = PolicyFile::read(&self.policy, self.settings.as_deref())?;
        let engine = self.host.engine()?;
        file.load(&engine, &file.compile(&engine)?, &self.name)?;
        let yaml = encode(&NewConfigMap {
            name: &self.name,
            namespace: self.namespace.as_deref(),
            component: &file.bytes,
            settings: file.settings.as_deref(),
            priority: self.priority,
            on_error: self.on_error,
        });
        let yaml = yaml.map_err(|error| match error {
            EncodeError::TooLarge { .. } => Failure::refused(format_args!("{}: {error}", file.shown)),
            _ => Failure::bad_input(error),
        })?;
        Ok(out.write_all(yaml.as_bytes())?)
    }
}

fn on_error(what: &str) -> OnError {
    if what == PASS { OnError::Pass } else { OnError::Leave }
}
