//! The settings: `{"registries": ["registry.internal:5000"]}`.
//!
//! They are read by hand: `serde_json` would make the component three times as large, and every start of the webhook
//! compile it, for a list of words in which nothing can be escaped.

/// The hosts that settings name, in lower case. What is wrong is said in words for the person who wrote them.
pub(crate) fn read(settings: &str) -> Result<Vec<String>, String> {
    let settings = settings.trim();
    if matches!(settings, "" | "{}") {
        return Ok(Vec::new());
    }
    let hosts = hosts(settings).ok_or_else(|| {
        "the one setting is a list of registry hosts: {\"registries\": [\"registry.example:5000\"]}".to_owned()
    })?;
    hosts.into_iter().map(host).collect()
}

/// What stands between the quotes, provided that the rest is as it should be.
fn hosts(settings: &str) -> Option<Vec<&str>> {
    let rest = after(after(settings, "{")?, "\"registries\"")?;
    let mut rest = after(after(rest, ":")?, "[")?;
    let mut hosts = Vec::new();
    while let Some(quoted) = after(rest, "\"") {
        let (host, behind) = quoted.split_once('"')?;
        hosts.push(host);
        match after(behind, ",") {
            Some(next) if next.starts_with('"') => rest = next,
            Some(_) => return None,
            None => {
                rest = behind;
                break;
            }
        }
    }
    after(after(rest, "]")?, "}")?.is_empty().then_some(hosts)
}

/// The text behind a token, and behind the white space around it.
fn after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    text.trim_start().strip_prefix(token).map(str::trim_start)
}

fn host(host: &str) -> Result<String, String> {
    let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if !host.is_empty() && host.chars().all(is_of_a_host) {
        Ok(host.to_ascii_lowercase())
    } else {
        Err(["\"", host, "\" is not a registry host; write it as it stands in image references: registry.example:5000"]
            .concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", &[])]
    #[case("\n", &[])]
    #[case("{}", &[])]
    #[case(r#"{"registries":[]}"#, &[])]
    #[case(r#"{"registries":["reg.internal:5000"]}"#, &["reg.internal:5000"])]
    #[case(" {\n \"registries\" : [ \"A.example\" ,\n \"b.example\" ] }\n", &["a.example", "b.example"])]
    fn hosts_are_good_settings(#[case] settings: &str, #[case] hosts: &[&str]) {
        assert_eq!(read(settings), Ok(hosts.iter().map(|&host| host.to_owned()).collect()));
    }

    #[rstest]
    #[case("http://reg.internal")]
    #[case("")]
    #[case("reg.internal/team")]
    #[case("\\u0061.example")]
    fn what_is_no_host_is_refused_and_quoted(#[case] host: &str) {
        let error = read(&format!(r#"{{"registries": ["a.example", "{host}"]}}"#)).unwrap_err();
        assert!(error.starts_with(&format!("\"{host}\" is not a registry host")), "{error}");
    }

    #[rstest]
    #[case("null")]
    #[case("[]")]
    #[case(r#"{"registry": ["a.example"]}"#)]
    #[case(r#"{"registries": "a.example"}"#)]
    #[case(r#"{"registries": [5000]}"#)]
    #[case(r#"{"registries": ["a.example",]}"#)]
    #[case(r#"{"registries": ["a.example" "b.example"]}"#)]
    #[case(r#"{"registries": ["a.example]}"#)]
    #[case(r#"{"registries": ["a.example"], "more": 1}"#)]
    #[case(r#"{"registries": ["a.example"]} more"#)]
    #[case("registry.internal:5000")]
    fn anything_else_is_refused_with_what_was_expected(#[case] settings: &str) {
        let error = read(settings).unwrap_err();
        assert!(error.contains(r#"{"registries": ["registry.example:5000"]}"#), "{error}");
    }
}
