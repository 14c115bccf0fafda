//! Example policy: sends a registry to a mirror.
