//! Settings in YAML or JSON become one JSON text, which stays as it is, or are refused.
#![no_main]

use cache_registry_configmaps::{LONGEST_SETTINGS, settings_json};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(json) = settings_json(text) else { return };
    assert!(json.len() <= LONGEST_SETTINGS);
    if !json.is_empty() {
        serde_json::from_str::<Value>(&json).expect("settings become JSON");
        assert_eq!(settings_json(&json).expect("JSON is settings"), json);
    }
});
