//! Values of flags: lengths of time and numbers of bytes, with their units.

use std::time::Duration;

use cache_registry_core::{parse_bytes, parse_duration};

/// A length of time above nothing: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected more than no time: 50ms".to_owned()),
        time => Ok(time),
    }
}

/// A number of bytes in memory, with `Ki`, `Mi` or `Gi` as Kubernetes writes them.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    usize::try_from(parse_bytes(text)?).map_err(|_| "that is more than this machine can address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(time("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        assert!(time("50").is_err() && time("0s").is_err() && time("ms").is_err() && time("1y").is_err());
        assert_eq!(bytes("32Mi"), Ok(32 << 20));
        assert!(bytes("32MB").is_err() && bytes("0").is_err());
    }
}
