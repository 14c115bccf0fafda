use std::time::Duration;

/// Reads a length of time: a whole number and its unit, `ms`, `s`, `m`, `h` or `d`. An error says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("expected a whole number and a unit, ms, s, m, h or d: 30d".to_owned()),
    };
    let milliseconds = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    milliseconds.map(Duration::from_millis).ok_or_else(|| "expected a whole number before the unit: 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("50ms", Duration::from_millis(50))]
    #[case("0s", Duration::ZERO)]
    #[case("2s", Duration::from_secs(2))]
    #[case("90m", Duration::from_mins(90))]
    #[case("1h", Duration::from_hours(1))]
    #[case("90d", Duration::from_hours(90 * 24))]
    fn has_a_unit(#[case] text: &str, #[case] expected: Duration) {
        assert_eq!(parse_duration(text), Ok(expected));
    }

    #[rstest]
    #[case("50")]
    #[case("ms")]
    #[case("")]
    #[case("1y")]
    #[case("-1s")]
    #[case("1.5h")]
    #[case("1h30m")]
    #[case("18446744073709551615m")]
    #[case("é1s")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(parse_duration(text).unwrap_err().starts_with("expected a whole number"), "{text}");
    }
}
