use std::io::{self, Write};

use jiff::{SignedDuration, Timestamp};

use crate::bytes::Bytes;
use crate::standing::{Images, Pulls, Registry, Served, Standing};

/// So many rows of a table are written; how many more there are is said.
const ROWS: usize = 10;

/// Writes it for people. Times are told as how long ago they are at `now`.
pub(crate) fn write(standing: &Standing, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let mut line = |title: &str, text: &str| writeln!(out, "{title:<10}{text}");
    line("IMAGES", &images(&standing.images))?;
    line("SIZE", &size(&standing.images, standing.registry.as_ref()))?;
    line("REGISTRY", &registry(standing.registry.as_ref(), now))?;
    line("GARBAGE", &garbage(standing.registry.as_ref(), now))?;
    line("PULLS", &pulls(&standing.pulls))?;

    let since = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| age(now.duration_since(at)));
    let upstreams = standing.upstreams.iter().map(|upstream| {
        let counts =
            [upstream.images, upstream.failing, upstream.unasked, upstream.gone].map(|count| count.to_string());
        let [images, failing, unasked, gone] = counts;
        [upstream.host.clone(), images, failing, unasked, gone, since(upstream.since)]
    });
    table(["UPSTREAM", "IMAGES", "FAILING", "NOT ASKED", "TAGS GONE", "SINCE"], upstreams, out)?;

    let missing = standing
        .missing
        .iter()
        .map(|missing| [missing.image.clone(), missing.reason.clone(), since(missing.since), missing.message.clone()]);
    table(["NOT IN THE REGISTRY", "REASON", "SINCE", "MESSAGE"], missing, out)?;

    let expiring = standing.expiring.iter().map(|expiring| {
        let left = expiring.expires_at.duration_since(now);
        let left = if left.is_negative() { "now".to_owned() } else { age(left) };
        [expiring.image.clone(), Bytes(expiring.bytes).to_string(), left]
    });
    table(["EXPIRES NEXT", "SIZE", "IN"], expiring, out)
}

fn images(images: &Images) -> String {
    if images.total == 0 {
        return "none yet: there is one for each image of a pod that was created since the installation".to_owned();
    }
    let reasons = images.reasons.iter().map(|(reason, count)| format!("{count} {reason}"));
    format!("{}: {}", images.total, reasons.collect::<Vec<_>>().join(", "))
}

fn size(images: &Images, registry: Option<&Registry>) -> String {
    let all = format!("{} in all images, shared layers counted for each", Bytes(images.bytes));
    // Of a bucket nobody tells.
    match registry.and_then(|registry| registry.last_collection.as_ref()?.kept_bytes) {
        Some(bytes) => format!("{all}; {} stored after the last garbage collection", Bytes(bytes)),
        None => all,
    }
}

fn registry(registry: Option<&Registry>, now: Timestamp) -> String {
    match registry {
        None => "not in this namespace: is it that of the release? --namespace names another".to_owned(),
        Some(Registry { collecting: Some(record), .. }) => {
            let since = age(now.duration_since(record.since));
            format!("stopped for a garbage collection ({}) since {since}; pulls go upstream", record.who)
        }
        Some(Registry { replicas, ready, .. }) => format!("{ready} of {replicas} ready"),
    }
}

fn garbage(registry: Option<&Registry>, now: Timestamp) -> String {
    let schedule = registry.and_then(|registry| registry.schedule.as_deref());
    let schedule = schedule.map_or_else(|| "no schedule".to_owned(), |schedule| format!("schedule {schedule}"));
    match registry.and_then(|registry| registry.last_collection.as_ref()) {
        Some(report) => format!(
            "collected {} ago: {}{} blobs freed, the registry was away for {} s; {schedule}",
            age(now.duration_since(report.ended)),
            // Of a bucket nobody tells.
            report.freed_bytes.map(|bytes| format!("{} in ", Bytes(bytes))).unwrap_or_default(),
            report.freed_blobs,
            report.seconds,
        ),
        None => format!("never collected; {schedule}"),
    }
}

fn pulls(pulls: &Pulls) -> String {
    let Pulls { proxies, told, untold, without_cache, requests, bytes } = pulls;
    if *proxies == 0 {
        return "no proxy runs in this namespace".to_owned();
    }
    let served = match (share(requests), share(bytes)) {
        (Some(of_requests), Some(of_bytes)) => {
            let all_requests = requests.cache + requests.upstream + requests.nobody;
            let all_bytes = Bytes(bytes.cache + bytes.upstream);
            format!("from the cache {of_requests} of {all_requests} requests and {of_bytes} of {all_bytes}")
        }
        _ => "none yet".to_owned(),
    };
    let parts = [
        Some(format!("{served}, as {told} of {proxies} proxies tell since they started")),
        (requests.nobody > 0).then(|| format!("{} answered by nobody", requests.nobody)),
        (*without_cache > 0).then(|| format!("{without_cache} leave the registry out because it does not answer")),
        untold.as_ref().map(|problem| format!("one does not tell: {problem}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The cache's, in percent; `None` of nothing.
fn share(served: &Served) -> Option<String> {
    let [cache, upstream, nobody] = [served.cache, served.upstream, served.nobody].map(u128::from);
    let permille = (cache * 1000).checked_div(cache + upstream + nobody)?;
    Some(format!("{}.{} %", permille / 10, permille % 10))
}

/// `3d4h`, as kubectl has it: two units at most.
fn age(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(units.len() - 1);
    let (unit, name) = units[first];
    let rest = units.get(first + 1).map(|(next, name)| (seconds % unit / next, name)).filter(|(count, _)| *count > 0);
    let rest = rest.map(|(count, name)| format!("{count}{name}")).unwrap_or_default();
    format!("{}{name}{rest}", seconds / unit)
}

/// Nothing where there are no rows.
fn table<const N: usize>(
    titles: [&str; N],
    rows: impl ExactSizeIterator<Item = [String; N]>,
    out: &mut impl Write,
) -> io::Result<()> {
    let more = rows.len().saturating_sub(ROWS);
    let rows: Vec<_> = rows.take(ROWS).map(|row| row.map(|cell| printable(&cell))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = titles.map(|title| title.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    writeln!(out)?;
    for row in [titles.map(str::to_owned)].iter().chain(&rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    if more > 0 {
        writeln!(out, "and {more} more: kubectl get cachedimages")?;
    }
    Ok(())
}

/// A message may quote what an upstream said, which must not reach the terminal's own commands.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
