//! The keys of a `ConfigMap` that holds a policy. There are no others.

/// The component, in `binaryData`: plain, or compressed with gzip or zstd.
pub const COMPONENT: &str = "policy.wasm";

/// In the place of a component: where one is in a registry.
pub const IMAGE: &str = "image";

/// In the place of a component: the name of a built-in policy.
pub const BUILT_IN: &str = "builtIn";

/// What the policy is told, YAML or JSON.
pub const SETTINGS: &str = "settings";

/// The policy's place in the set: lower ones are asked first.
pub const PRIORITY: &str = "priority";

/// What becomes of an image when the policy fails: [`LEAVE`] or [`PASS`].
pub const ON_ERROR: &str = "onError";

/// The Secret with which [`IMAGE`] is pulled.
pub const PULL_SECRET: &str = "pullSecret";

/// `"false"` takes the policy out of the set.
pub const ENABLED: &str = "enabled";

/// A value of [`ON_ERROR`]: the image is left as it is.
pub const LEAVE: &str = "leave";

/// A value of [`ON_ERROR`]: the next policy is asked.
pub const PASS: &str = "pass";

/// All of them, in the order in which they are shown to people.
pub const ALL: [&str; 8] = [COMPONENT, IMAGE, BUILT_IN, SETTINGS, PRIORITY, ON_ERROR, PULL_SECRET, ENABLED];
