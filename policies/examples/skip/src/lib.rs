//! Example policy: skips pods by namespace or label.
