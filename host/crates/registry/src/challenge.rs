use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// What a registry asks for when it answers 401
/// ([RFC 9110 §11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token, from the token service at `realm`
    /// (<https://distribution.github.io/distribution/spec/auth/token/>).
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// A user name and a password.
    Basic,
    /// Something that no registry client speaks.
    Other(String),
}

impl Challenge {
    /// The challenge of an answer that is easiest to meet; `None` where it has none that can be read.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(Self::parse).min_by_key(|challenge| match challenge {
            Self::Bearer { .. } => 0,
            Self::Basic => 1,
            Self::Other(_) => 2,
        })
    }

    fn parse(line: &str) -> Vec<Self> {
        let mut challenges: Vec<(&str, Vec<(String, String)>)> = Vec::new();
        let mut rest = line;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (word, after) = split_token(rest);
            if word.is_empty() {
                break;
            }
            // A word before `=` is a parameter of the challenge at hand, any other one begins the next challenge.
            let Some(value) = after.trim_start().strip_prefix('=') else {
                challenges.push((word, Vec::new()));
                rest = after;
                continue;
            };
            let (value, after) = split_value(value.trim_start());
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after;
        }
        challenges.into_iter().map(|(scheme, parameters)| Self::from_parts(scheme, parameters)).collect()
    }

    fn from_parts(scheme: &str, parameters: Vec<(String, String)>) -> Self {
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters {
            match name.as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        match (scheme.to_ascii_lowercase().as_str(), realm) {
            ("bearer", Some(realm)) => Self::Bearer { realm, service, scope },
            ("basic", _) => Self::Basic,
            _ => Self::Other(scheme.chars().take(40).collect()),
        }
    }
}

/// Splits off a token (RFC 9110 §5.6.2).
fn split_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// Splits off a parameter's value: a quoted string (RFC 9110 §5.6.4), or what stands before the next comma or space.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(ToOwned::to_owned),
            scope: scope.map(ToOwned::to_owned),
        }
    }

    fn of(lines: &[&str]) -> Option<Challenge> {
        Challenge::of(&lines.iter().map(|line| (WWW_AUTHENTICATE, line.parse().unwrap())).collect())
    }

    #[rstest]
    #[case(
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))
    )]
    #[case(r#"bearer Realm = "https://x/t" , error="invalid_token""#, bearer("https://x/t", None, None))]
    #[case("Bearer realm=https://x/t,service=s", bearer("https://x/t", Some("s"), None))]
    #[case(r#"Bearer realm="https://x/a\"b\\c""#, bearer(r#"https://x/a"b\c"#, None, None))]
    #[case(r#"Basic realm="a, Bearer realm=b", Bearer realm="https://x/t""#, bearer("https://x/t", None, None))]
    #[case(r#"Bearer realm="https://x/t", Basic realm="y""#, bearer("https://x/t", None, None))]
    #[case(r#"Basic realm="Registry Realm""#, Challenge::Basic)]
    #[case("Negotiate YWJj==, Basic realm=x", Challenge::Basic)]
    #[case("Negotiate", Challenge::Other("Negotiate".to_owned()))]
    #[case("Bearer", Challenge::Other("Bearer".to_owned()))]
    #[case(r#"Bearer realm="https://unterminated"#, bearer("https://unterminated", None, None))]
    fn a_line_is_read(#[case] line: &str, #[case] expected: Challenge) {
        assert_eq!(of(&[line]), Some(expected));
    }

    #[test]
    fn of_several_lines_the_one_that_can_be_met_counts() {
        assert_eq!(of(&["Basic realm=x", "Bearer realm=https://x/t"]), Some(bearer("https://x/t", None, None)));
    }

    #[rstest]
    #[case("")]
    #[case(", ,")]
    #[case("=\"x\"")]
    fn what_is_no_challenge_is_none(#[case] line: &str) {
        assert_eq!(of(&[line]), None);
    }
}
