//! Tools for authors of policies.
