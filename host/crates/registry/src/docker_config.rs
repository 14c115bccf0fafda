use std::collections::BTreeMap;
use std::fmt;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::{Credentials, CredentialsError};

/// What a Secret can hold (<https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size>).
pub(crate) const LARGEST: usize = 1024 * 1024;
/// Of a key, in an error.
const SHOWN: usize = 200;

/// The credentials for a repository in a Docker configuration: those of the key that fits it best.
///
/// Kubernetes tries all keys that fit, the most specific one first, until one serves. Here one is taken, and there is
/// one difference: Kubernetes compares paths letter by letter, so that `ghcr.io/team` fits `ghcr.io/team-b/app`. It
/// does so here as well, but `ghcr.io` is better.
///
/// The crate `docker_credential` reads such a file for Docker's own tools. It knows no paths and no wildcards, and it
/// runs the helper that the file names: right for a user's own file, and not for one from a Secret.
pub(crate) fn find(json: &[u8], registry: &str, repository: &str) -> Result<Option<Credentials>, CredentialsError> {
    let entries = entries(json)?;
    let keys = || entries.iter().map(|(text, entry)| (Key::of(text), entry));
    let mut fitting: Vec<_> = keys().filter(|(key, _)| key.fits(registry, repository)).collect();
    if fitting.is_empty() && registry == "docker.io" {
        fitting = keys().filter(|(key, _)| key.is_docker_hub()).collect();
    }
    fitting.sort_by(|(a, _), (b, _)| b.rank(repository).cmp(&a.rank(repository)));
    for (key, entry) in &fitting {
        let held = entry.credentials();
        let held = held.map_err(|problem| CredentialsError::new(format_args!("the entry of {key}: {problem}")))?;
        if held.is_some() {
            return Ok(held);
        }
    }
    match fitting.first() {
        None => Ok(None),
        Some((key, _)) => Err(CredentialsError::new(format_args!(
            "the entry of {key} holds no `auth`, and no `username`: `docker login` may have left it in a credential store \
             of the machine where it ran (`credsStore`). `kubectl create secret docker-registry` makes one that holds it"
        ))),
    }
}

/// `config.json`
#[derive(Deserialize)]
struct Config {
    auths: Option<Entries>,
}

/// All of `.dockercfg`, and the inside of `config.json`.
type Entries = BTreeMap<String, Entry>;

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    /// The base64 of both, with a colon between them. It counts before them.
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// The parser's own words may quote what it read, so that they are not told.
fn entries(json: &[u8]) -> Result<Entries, CredentialsError> {
    if json.len() > LARGEST {
        return Err(CredentialsError::new(format_args!("larger than {LARGEST} bytes, which no Secret is")));
    }
    let config: Config = serde_json::from_slice(json).map_err(|error| {
        let what = if error.is_data() { "not of the form of a Docker configuration" } else { "not JSON" };
        CredentialsError::new(format_args!("line {}, column {}: {what}", error.line(), error.column()))
    })?;
    match config.auths {
        Some(entries) => Ok(entries),
        None => serde_json::from_slice(json)
            .map_err(|_| CredentialsError::new("it has no `auths`, and is not of the form of a .dockercfg either")),
    }
}

impl Entry {
    /// `None` where there are none in it.
    fn credentials(&self) -> Result<Option<Credentials>, CredentialsError> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Credentials::identity_token(&token).map(Some);
        }
        if let Some(auth) = given(&self.auth) {
            let (user, password) = decoded(&auth).ok_or_else(|| {
                CredentialsError::new("its `auth` is not the base64 of a user name, a colon and a password")
            })?;
            return Credentials::password(&user, &password).map(Some);
        }
        given(&self.username)
            .map(|user| Credentials::password(&user, self.password.as_deref().unwrap_or_default()))
            .transpose()
    }
}

fn decoded(auth: &str) -> Option<(String, String)> {
    const WITH_PADDING_OR_NOT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let auth: String = auth.split_ascii_whitespace().collect();
    let text = String::from_utf8(WITH_PADDING_OR_NOT.decode(auth).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What an entry is for: `ghcr.io`, `ghcr.io/team`, `*.example:5000`, `https://index.docker.io/v1/`.
struct Key<'a> {
    host: String,
    /// With a slash before it, or empty.
    path: &'a str,
}

impl<'a> Key<'a> {
    fn of(text: &'a str) -> Self {
        let address = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let address = address.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        // A password may stand in an address, and has no say in which host it is.
        let host = host.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        // The versions of the registry's API are no part of a repository.
        let is_versioned = path.starts_with("/v1/") || path.starts_with("/v2/");
        let path = path.get(if is_versioned { 3 } else { 0 }..).unwrap_or_default();
        Self { host, path: if path == "/" { "" } else { path } }
    }

    fn is_docker_hub(&self) -> bool {
        self.host == "index.docker.io" && self.path.is_empty()
    }

    fn fits(&self, registry: &str, repository: &str) -> bool {
        let (pattern, port) = split_port(&self.host);
        let (host, wanted_port) = split_port(registry);
        port == wanted_port
            && pattern.split('.').count() == host.split('.').count()
            && pattern.split('.').zip(host.split('.')).all(|(pattern, label)| fits(pattern, label))
            && self.rest(repository).is_some()
    }

    /// How specific it is, among keys that fit.
    fn rank(&self, repository: &str) -> impl Ord {
        let is_whole = self.rest(repository).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.is_empty() || self.path.ends_with('/')
        });
        (is_whole, self.host.clone(), self.path.to_owned())
    }

    /// What of a repository is below the path.
    fn rest<'b>(&self, repository: &'b str) -> Option<&'b str> {
        repository.strip_prefix(self.path.strip_prefix('/').unwrap_or_default())
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.host.chars().chain(self.path.chars()).take(SHOWN).collect();
        write!(f, "{shown:?}")
    }
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port)))
}

/// True where a pattern stands for a label of a host: `*` in it for any number of characters.
fn fits(pattern: &str, label: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut left) = label.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// A configuration in which each key has a password that is the key.
    fn config(keys: &[&str]) -> String {
        let entries = keys.iter().map(|key| format!(r#""{key}":{{"username":"u","password":"{key}"}}"#));
        format!(r#"{{"auths":{{{}}}}}"#, entries.collect::<Vec<_>>().join(","))
    }

    #[rstest]
    #[case(&["ghcr.io"], "ghcr.io", Some("ghcr.io"))]
    #[case(&["ghcr.io"], "quay.io", None)]
    #[case(&["https://ghcr.io"], "ghcr.io", Some("https://ghcr.io"))]
    #[case(&["http://ghcr.io/v2/"], "ghcr.io", Some("http://ghcr.io/v2/"))]
    #[case(&["GHCR.io"], "ghcr.io", Some("GHCR.io"))]
    #[case(&["ghcr.io/v1/team"], "ghcr.io", Some("ghcr.io/v1/team"))]
    // Ports.
    #[case(&["reg.example"], "reg.example:5000", None)]
    #[case(&["reg.example:5000"], "reg.example", None)]
    #[case(&["reg.example:5000"], "reg.example:5000", Some("reg.example:5000"))]
    #[case(&["*.example:5000"], "reg.example:5000", Some("*.example:5000"))]
    // Wildcards stand within one label.
    #[case(&["*.example"], "reg.example", Some("*.example"))]
    #[case(&["*.example"], "a.reg.example", None)]
    #[case(&["*.example"], "example", None)]
    #[case(&["*.*.example"], "a.reg.example", Some("*.*.example"))]
    #[case(&["reg-*.example"], "reg-eu.example", Some("reg-*.example"))]
    #[case(&["*.example", "reg.example"], "reg.example", Some("reg.example"))]
    // Of several, the longest path.
    #[case(&["ghcr.io", "ghcr.io/team", "ghcr.io/team/app", "ghcr.io/other"], "ghcr.io", Some("ghcr.io/team/app"))]
    #[case(&["ghcr.io/team/", "ghcr.io"], "ghcr.io", Some("ghcr.io/team/"))]
    #[case(&["ghcr.io/team/app/more"], "ghcr.io", None)]
    // `te` is no folder that `team/app` lies in: worse than the host, better than nothing.
    #[case(&["ghcr.io/te", "ghcr.io"], "ghcr.io", Some("ghcr.io"))]
    #[case(&["ghcr.io/te"], "ghcr.io", Some("ghcr.io/te"))]
    // Docker Hub.
    #[case(&["https://index.docker.io/v1/"], "docker.io", Some("https://index.docker.io/v1/"))]
    #[case(&["index.docker.io"], "docker.io", Some("index.docker.io"))]
    #[case(&["docker.io", "https://index.docker.io/v1/"], "docker.io", Some("docker.io"))]
    #[case(&["https://index.docker.io/v1/"], "ghcr.io", None)]
    #[case(&["index.docker.io/other"], "docker.io", None)]
    // What is no address fits nothing.
    #[case(&["", "*", "/", "https://", "@", "?"], "ghcr.io", None)]
    fn the_key_that_fits_best_serves(#[case] keys: &[&str], #[case] registry: &str, #[case] key: Option<&str>) {
        let found = find(config(keys).as_bytes(), registry, "team/app").unwrap();
        assert_eq!(found, key.map(|key| Credentials::password("u", key).unwrap()));
    }

    #[rstest]
    #[case("a*", "a", true)]
    #[case("a*b*c", "a-b-c", true)]
    #[case("a*b*c", "abbc", true)]
    #[case("a*b*c", "ac", false)]
    #[case("ab*ba", "aba", false)]
    #[case("**", "", true)]
    fn a_pattern_stands_for_labels(#[case] pattern: &str, #[case] label: &str, #[case] expected: bool) {
        assert_eq!(fits(pattern, label), expected);
    }

    #[rstest]
    #[case(r#"{"auth":"dTpwOnc="}"#, "u", "p:w")]
    #[case(r#"{"auth":"dTpwOnc"}"#, "u", "p:w")]
    #[case(r#"{"auth":" dTpw\n Onc=\n"}"#, "u", "p:w")]
    #[case(r#"{"auth":"dTpwOnc=","username":"x","password":"y"}"#, "u", "p:w")]
    #[case(r#"{"username":"u","password":"p","email":"e","auth":""}"#, "u", "p")]
    #[case(r#"{"username":"u"}"#, "u", "")]
    fn an_entry_holds_a_password(#[case] entry: &str, #[case] user: &str, #[case] password: &str) {
        let expected = Credentials::password(user, password).unwrap();
        for json in [format!(r#"{{"auths":{{"x.io":{entry}}}}}"#), format!(r#"{{"x.io":{entry}}}"#)] {
            assert_eq!(find(json.as_bytes(), "x.io", "a").unwrap().as_ref(), Some(&expected), "{json}");
        }
    }

    #[test]
    fn an_identity_token_counts_before_a_password() {
        let json = br#"{"auths":{"x.io":{"auth":"MDAwMDo=","identitytoken":"t"}}}"#;
        assert_eq!(find(json, "x.io", "a").unwrap(), Credentials::identity_token("t").ok());
    }

    #[rstest]
    #[case("{}")]
    #[case(r#"{"auths":{}}"#)]
    #[case(r#"{"auths":{"y.io":{"auth":"!"}}}"#)]
    fn where_there_is_nothing_there_is_none(#[case] json: &str) {
        assert_eq!(find(json.as_bytes(), "x.io", "a").unwrap(), None);
    }

    #[rstest]
    #[case("", "line 1, column 0: not JSON")]
    #[case("hush", "line 1, column 1: not JSON")]
    #[case("\"hush\"", "line 1, column 6: not of the form")]
    #[case(r#"{"auths":"hush"}"#, "not of the form")]
    #[case(r#"{"auths":{"x.io":"hush"}}"#, "not of the form")]
    #[case(r#"{"auths":{"x.io":{"auth":["hush"]}}}"#, "not of the form")]
    #[case(r#"{"credsStore":"hush"}"#, "it has no `auths`")]
    #[case(r#"{"auths":{"x.io":{"auth":"hush!"}}}"#, "the entry of \"x.io\": its `auth` is not")]
    #[case(r#"{"auths":{"x.io":{"auth":"aHVzaA=="}}}"#, "the entry of \"x.io\": its `auth` is not")]
    #[case(r#"{"auths":{"x.io":{"auth":"/////w=="}}}"#, "the entry of \"x.io\": its `auth` is not")]
    #[case(r#"{"auths":{"x.io":{"username":"a:b","password":"hush"}}}"#, "a user name has no colon")]
    #[case(r#"{"auths":{"https://u:hush@x.io/?t=hush":{}},"credsStore":"y"}"#, "the entry of \"x.io\" holds no `auth`")]
    fn what_is_wrong_is_told_without_a_secret(#[case] json: &str, #[case] part: &str) {
        let error = find(json.as_bytes(), "x.io", "a").unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("hush"), "{error}");
    }

    #[test]
    fn what_no_secret_can_hold_is_not_looked_at() {
        let error = find(&vec![b' '; LARGEST + 1], "x.io", "a").unwrap_err().to_string();
        assert!(error.contains("larger than 1048576 bytes"), "{error}");
        let deep = format!(r#"{{"auths":{{"x.io":{}"#, "[".repeat(100_000));
        assert!(find(deep.as_bytes(), "x.io", "a").is_err());
    }
}
