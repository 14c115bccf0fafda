use std::io::Write;
use std::path::PathBuf;

use cache_registry_api::policy_keys::IMAGE;
use cache_registry_core::Reference;
use cache_registry_registry::artifact::{Interfaces, push_wasm};
use cache_registry_registry::{Connections, Credentials, Registries, Timeouts};
use clap::Args;
use tokio::task::spawn_blocking;

use crate::Failure;
use crate::host::Host;
use crate::policy_file::PolicyFile;

/// `cache-registry policy push`
#[derive(Debug, Args)]
pub struct Push {
    /// The policy: a component, which may be compressed with gzip or zstd
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Where to, with a tag: registry.example/policies/mine:1
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// Settings with which the policy is checked before, YAML or JSON; they are not pushed
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// How registries are reached: endpoints, CAs; see docs/registries.md
    #[arg(long, env = "CACHE_REGISTRY_REGISTRIES", value_name = "FILE")]
    registries: Option<PathBuf>,
    /// Speak plain HTTP to the registry
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    host: Host,
}

impl Push {
    /// Pushes what the host takes, and says how a ConfigMap names it.
    pub(crate) async fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let Some(tag) = self.reference.tag().filter(|_| self.reference.digest().is_none()) else {
            return Err(Failure::bad_input(format_args!(
                "{} has a digest, which only follows from the push: give a tag instead, such as {}/{}:1",
                self.reference,
                self.reference.registry(),
                self.reference.repository()
            )));
        };
        let file = PolicyFile::read(&self.policy, self.settings.as_deref())?;
        let engine = self.host.engine()?;
        let component = file.compile(&engine)?;
        file.load(&engine, &component, &file.name)?;

        let registry = self.reference.registry().to_owned();
        let credentials = spawn_blocking(move || Credentials::of_user(&registry)).await;
        let credentials = credentials.map_err(anyhow::Error::new)?.map_err(Failure::bad_input)?;
        let registries = self.registries.as_deref().map_or(Ok(Registries::default()), Registries::read);
        let registries =
            registries.and_then(|registries| registries.naming(self.reference.registry(), self.plain_http));
        let connections = Connections::new(registries.map_err(Failure::bad_input)?, Timeouts::default());
        let connections = connections.map_err(anyhow::Error::new)?;
        let repository = connections.upstream_as(self.reference.registry(), self.reference.repository(), credentials);
        let interfaces = Interfaces { imports: component.imports(), exports: component.exports() };
        let pushed = push_wasm(&repository, tag, file.component()?, &interfaces).await;
        let digest = pushed.map_err(|error| Failure::refused(format_args!("{}: {error}", self.reference)))?;

        writeln!(out, "{}@{digest}", self.reference)?;
        writeln!(out)?;
        writeln!(out, "# In the data of its ConfigMap:")?;
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        writeln!(out, "{IMAGE}: {registry}/{repository}@{digest}")?;
        Ok(())
    }
}
