use std::fs;

/// The most memory that this process may have, where the container that it is in has a limit: beyond it the kernel ends
/// the process (<https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>).
pub(crate) fn memory_limit() -> Option<u64> {
    // The second is cgroup v1's, where no limit is a number beyond all memory.
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    limits.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}
