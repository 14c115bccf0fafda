use http::HeaderMap;
use serde::Deserialize;

/// What a registry says beyond its status may be anything: this much of it is passed on.
const LONGEST_MESSAGE: usize = 300;

/// What the body of an error says
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) message: Option<String>,
    /// The code says that the manifest, the blob or the repository does not exist.
    pub(crate) is_unknown: bool,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
    /// Token services answer so.
    details: Option<String>,
    error_description: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Told {
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let Ok(read) = serde_json::from_slice::<ErrorBody>(body) else {
            // A page for browsers tells nothing in 300 characters.
            let is_text = content_type.is_none_or(|kind| kind.starts_with("text/plain"));
            let text = is_text.then(|| std::str::from_utf8(body).ok().and_then(printable)).flatten();
            return Self { message: text, is_unknown: false };
        };
        let is_unknown =
            read.errors.iter().any(|error| matches!(error.code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN"));
        let errors = read.errors.iter().map(|error| match error.message.as_str() {
            "" => error.code.clone(),
            message => message.to_owned(),
        });
        let errors = errors.collect::<Vec<_>>().join("; ");
        let texts = [Some(errors), read.error_description, read.details, read.message];
        Self { message: texts.into_iter().flatten().find_map(|text| printable(&text)), is_unknown }
    }
}

/// At most [`LONGEST_MESSAGE`] characters on one line; `None` where nothing is left.
fn printable(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches('.');
    (!line.is_empty()).then(|| line.chars().take(LONGEST_MESSAGE).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"details":"no such user"}"#, Some("no such user"))]
    #[case(r#"{"errors":[{"code":"A","message":"one"},{"code":"B"}]}"#, Some("one; B"))]
    #[case("plain\r\n\x1b[31m words.", Some("plain [31m words"))]
    #[case("", None)]
    fn a_message_is_found(#[case] body: &str, #[case] message: Option<&str>) {
        assert_eq!(Told::read(&HeaderMap::new(), body.as_bytes()).message.as_deref(), message);
    }

    #[test]
    fn a_message_is_bounded_and_a_page_is_none() {
        let long = Told::read(&HeaderMap::new(), "x".repeat(5000).as_bytes()).message.unwrap();
        assert_eq!(long.len(), LONGEST_MESSAGE);
        let html = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "text/html".parse().unwrap())]);
        assert_eq!(Told::read(&html, b"<html>").message, None);
    }
}
