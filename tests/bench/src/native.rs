use std::sync::Arc;

use cache_registry_core::{
    ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, PullPolicy, Reference, Verdict,
};
use cache_registry_policy::built_in::ReleaseSettings;
use cache_registry_webhook::Decide;

/// The rules of the built-in policies, compiled into this program: what the policies would cost without WebAssembly.
#[derive(Debug)]
pub(crate) struct Native {
    rules: default_filter::Rules,
    node_address: NodeAddress,
}

impl Native {
    /// The rules with the settings that the policies have where nobody says another.
    pub(crate) fn new(node_address: NodeAddress, own_registry: &str) -> Result<Self, String> {
        let own = vec![own_registry.to_owned()];
        let settings = ReleaseSettings::default().with("default-filter", "");
        let rules = default_filter::Rules::new(node_address.authority().to_owned(), own).with_settings(&settings)?;
        Ok(Self { rules, node_address })
    }

    fn verdict(&self, container: &ContainerFacts) -> Verdict {
        let asked_container = default_filter::Container {
            name: container.name.clone(),
            kind: match container.kind {
                ContainerKind::Init => default_filter::ContainerKind::Init,
                ContainerKind::Regular => default_filter::ContainerKind::Regular,
                ContainerKind::Ephemeral => default_filter::ContainerKind::Ephemeral,
            },
            pull_policy: match container.pull_policy {
                PullPolicy::Always => default_filter::PullPolicy::Always,
                PullPolicy::IfNotPresent => default_filter::PullPolicy::IfNotPresent,
                PullPolicy::Never => default_filter::PullPolicy::Never,
            },
        };
        let image = &container.image;
        let asked_image = default_filter::Image {
            registry: image.registry().to_owned(),
            repository: image.repository().to_owned(),
            tag: image.tag().map(ToOwned::to_owned),
            digest: image.digest().map(ToString::to_string),
        };
        let decided = match self.rules.verdict(&asked_container, &asked_image) {
            default_filter::Verdict::Ignore(reason) => Ok((Decision::LeftAlone { reason }, "default-filter")),
            default_filter::Verdict::Pass | default_filter::Verdict::Cache => {
                self.rewrite(&asked_image).map(|decision| (decision, "default-rewrite"))
            }
        };
        match decided {
            Ok((decision, policy)) => {
                // As the components' verdicts say it: the comparison is of the same work.
                let cached_by = (policy == "default-rewrite").then(|| "default-filter".to_owned());
                Verdict { decision, policy: Some(policy.to_owned()), cached_by, warnings: Vec::new() }
            }
            Err(reason) => Verdict {
                decision: Decision::LeftAlone { reason: reason.clone() },
                policy: None,
                cached_by: None,
                warnings: vec![reason],
            },
        }
    }

    fn rewrite(&self, image: &default_rewrite::Image) -> Result<Decision, String> {
        let parse = |text: &str| text.parse::<Reference>().map_err(|error| error.to_string());
        let rewritten =
            default_rewrite::rewritten(image, |source| Ok(self.node_address.of(&parse(source)?).to_string()))?;
        Ok(Decision::Rewritten { image: parse(&rewritten.image)?, source: parse(&rewritten.source)? })
    }
}

impl Decide for Native {
    async fn decide(&self, _pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        containers.iter().map(|container| self.verdict(container)).collect()
    }
}

/// The same decisions, on a thread that may block.
#[derive(Debug)]
pub(crate) struct OnBlockingThread(Arc<Native>);

impl OnBlockingThread {
    pub(crate) fn new(native: Native) -> Self {
        Self(Arc::new(native))
    }
}

impl Decide for OnBlockingThread {
    async fn decide(&self, _pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        let native = Arc::clone(&self.0);
        let decided =
            tokio::task::spawn_blocking(move || containers.iter().map(|facts| native.verdict(facts)).collect());
        // Fewer verdicts than containers is an answer that the measurement takes for a wrong one.
        decided.await.unwrap_or_default()
    }
}
