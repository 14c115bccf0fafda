//! Policies from ConfigMaps.
