//! Example policy: caches only what has a digest.
