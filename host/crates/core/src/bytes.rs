/// Reads a number of bytes above nothing: a whole number, with `Ki`, `Mi`, `Gi` or `Ti` as Kubernetes writes them. An error
/// says what is expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err("expected a number of bytes, or one with Ki, Mi, Gi or Ti: 32Mi".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a whole number of bytes: 32Mi".to_owned())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(|| "expected between 1 and 16383Ti".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("100", 100)]
    #[case("32Mi", 32 << 20)]
    #[case("2Ti", 2 << 40)]
    fn has_a_unit_or_none(#[case] text: &str, #[case] expected: u64) {
        assert_eq!(parse_bytes(text), Ok(expected));
    }

    #[rstest]
    #[case("")]
    #[case("32MB")]
    #[case("Gi")]
    #[case("0")]
    #[case("-1")]
    #[case("1.5Gi")]
    #[case("99999999999Gi")]
    #[case("\u{e9}Mi")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(parse_bytes(text).unwrap_err().starts_with("expected"), "{text}");
    }
}
