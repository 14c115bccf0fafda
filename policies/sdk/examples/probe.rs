//! A policy that shows what the SDK gives a policy, for tests: it recites what it is told, says lines, and panics.

use cache_registry_policy_sdk::host::{self, Level};
use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Rewrite, Rewritten, Verdict, export};
use serde::Deserialize;

/// What to do when asked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Probe {
    /// A line for the log.
    say: Option<String>,
    /// The message of a panic.
    panic: Option<String>,
    /// The image is ignored, for a reason that tells all of this.
    recite: Option<Topic>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Topic {
    Pod,
    Container,
    Host,
}

impl Filter for Probe {
    fn filter(&self, pod: &Pod, container: &Container, image: &Image) -> Verdict {
        if let Some(line) = &self.say {
            host::log(Level::Info, line);
        }
        if let Some(message) = &self.panic {
            assert!(message.is_empty(), "{message}");
        }
        Verdict::ignore(match self.recite {
            None => return Verdict::Cache,
            Some(Topic::Pod) => {
                let owner = pod.owner().map(|owner| [owner.api_version, owner.kind, owner.name]);
                let found = (pod.label("app"), pod.annotation("app"), pod.labels());
                format!("{:?}", (pod.namespace(), pod.name(), pod.service_account(), pod.json(), found, owner))
            }
            Some(Topic::Container) => {
                format!("{:?}", (&container.name, container.kind, container.pull_policy, image.to_string()))
            }
            Some(Topic::Host) => {
                format!("{:?}", (host::own_registries(), host::node_registry(), host::node_address("a/b")))
            }
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.say.as_deref() == Some("") { Err("there is nothing to say".to_owned()) } else { Ok(()) }
    }
}

impl Rewrite for Probe {
    fn rewrite(&self, _: &Pod, _: &Container, image: &Image) -> Result<Option<Rewritten>, String> {
        Rewritten::cached_from(image.to_string()).map(Some)
    }

    fn check(&self) -> Result<(), String> {
        if self.panic.as_deref() == Some("") { Err("a panic has a message".to_owned()) } else { Ok(()) }
    }
}

export!(filter + rewrite: Probe);
