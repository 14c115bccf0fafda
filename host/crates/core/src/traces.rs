/// The target of spans that are for traces alone. Log lines are about the request that they belong to, and do not name
/// what it is made of.
///
/// Whoever has such spans needs no more than this name; what becomes of them is for the process to decide.
pub const TRACES: &str = "cache_registry::traces";
