//! Values of flags: lengths of time and numbers of bytes, with their units.

use std::time::Duration;

use cache_registry_core::parse_duration;

/// A length of time above nothing: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected more than no time: 50ms".to_owned()),
        time => Ok(time),
    }
}

/// A number of bytes, with `Ki`, `Mi` or `Gi` as Kubernetes writes them.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: usize = match &text[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err("expected a number of bytes, or one with Ki, Mi or Gi: 32Mi".to_owned()),
    };
    let number: usize = digits.parse().map_err(|_| "expected a whole number of bytes: 32Mi".to_owned())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(|| "expected between 1 and usize::MAX".to_owned())
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
        assert_eq!(bytes("100"), Ok(100));
        assert!(bytes("32MB").is_err() && bytes("0").is_err() && bytes("99999999999999999999Gi").is_err());
    }
}
