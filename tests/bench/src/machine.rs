use std::fs;

/// Where a server runs that is measured on one core.
pub(crate) const SERVER_CPU: usize = 0;
/// Where its load comes from.
pub(crate) const LOAD_CPU: usize = 1;

/// What the numbers were measured on, in one line.
pub(crate) fn description() -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u32>().ok()).unwrap_or(0) / (1 << 20);
    format!("{model}, {cores} cores, {memory} GiB, Linux {}", kernel.trim())
}
