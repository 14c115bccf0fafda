use std::sync::OnceLock;

use crate::glue::cache_registry::policy::{host, types::Pod};
use crate::glue::exports::cache_registry::policy::{check, filter};
use crate::{Container, Image, Rules, Verdict};

/// The policy as the contract sees it.
pub(crate) struct Component;

impl check::Guest for Component {
    fn check() -> Result<(), String> {
        crate::check(&host::settings())
    }
}

impl filter::Guest for Component {
    fn filter(_pod: &Pod, container: Container, image: Image) -> Verdict {
        // An instance answers for each container of a pod; the host is asked once.
        static RULES: OnceLock<Rules> = OnceLock::new();
        RULES.get_or_init(|| Rules::new(host::node_registry(), host::own_registries(), &host::settings())).verdict(&container, &image)
    }
}
