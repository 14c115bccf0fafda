use crate::glue::cache_registry::policy::{
    host,
    types::{Container, Pod},
};
use crate::glue::exports::cache_registry::policy::{check, rewrite};
use crate::{Image, Rewritten};

/// The policy as the contract sees it.
pub(crate) struct Component;

impl check::Guest for Component {
    fn check() -> Result<(), String> {
        let settings = host::settings();
        if settings.trim().is_empty() { Ok(()) } else { Err("this policy has no settings".to_owned()) }
    }
}

impl rewrite::Guest for Component {
    fn rewrite(_pod: &Pod, _container: Container, image: Image) -> Result<Option<Rewritten>, String> {
        crate::rewritten(&image, host::node_address).map(Some)
    }
}
