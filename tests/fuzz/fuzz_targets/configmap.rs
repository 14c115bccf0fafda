//! Whatever stands in a ConfigMap, it is a declaration or it is refused; what it unpacks to is bounded.
#![no_main]

use cache_registry_configmaps::{LARGEST_COMPONENT, Source, decode, decompress};
use k8s_openapi::api::core::v1::ConfigMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(configmap) = serde_json::from_slice::<ConfigMap>(json) else { return };
    match decode(configmap) {
        Ok(declaration) => {
            if let Source::Inline(component) = declaration.source
                && let Ok(component) = decompress(component)
            {
                assert!(component.len() <= LARGEST_COMPONENT);
            }
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty() && !refusal.reason().is_empty()),
    }
});
