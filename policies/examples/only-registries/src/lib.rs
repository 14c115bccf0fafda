//! Example policy: caches only some registries.
