use std::fs;

/// Where a server runs that is measured on one core.
pub(crate) const SERVER_CPU: usize = 0;
/// Where its load comes from.
pub(crate) const LOAD_CPU: usize = 1;

/// Above this, something else was at work, and even ratios are to be read with care.
const QUIET: f64 = 0.5;

/// What the numbers are measured on, in one line; asked before anything is measured, because it says how busy the
/// machine is with other things.
pub(crate) fn description() -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u32>().ok()).unwrap_or(0) / (1 << 20);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let busy = if load > QUIET { format!(", **busy with other work** (load average {load})") } else { String::new() };
    format!("{model}, {cores} cores, {memory} GiB, Linux {}{busy}", kernel.trim())
}
