use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use http::HeaderValue;

use crate::docker_config::{self, LARGEST};

/// In whose name a registry is spoken to: a user name and a password, an identity token of a token service, or a token
/// that somebody else had from that service ([`PullToken`](crate::PullToken)).
///
/// Two are equal when they hold the same. What they hold is in no text that is made of them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials(Arc<Secret>);

/// Why there are no credentials where there should be some. The text never quotes what is to be kept secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialsError(String);

#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Secret {
    Password {
        user: String,
        password: String,
    },
    IdentityToken(String),
    /// Shown to the registry as it is; nothing else can be had for it.
    PullToken(String),
}

/// Servers refuse headers that are longer than this.
const LONGEST: usize = 32 * 1024;

impl Credentials {
    /// A user name and a password.
    pub fn password(user: &str, password: &str) -> Result<Self, CredentialsError> {
        // RFC 7617 §2: what stands before the first colon is the user name.
        if user.contains(':') {
            return Err(CredentialsError::new("a user name has no colon"));
        }
        Self::bounded(user.len() + password.len())?;
        Ok(Self(Arc::new(Secret::Password { user: user.to_owned(), password: password.to_owned() })))
    }

    /// What a token service gave for logging in, and gives tokens for
    /// (<https://distribution.github.io/distribution/spec/auth/oauth/>).
    pub fn identity_token(token: &str) -> Result<Self, CredentialsError> {
        Self::bounded(token.len())?;
        Ok(Self(Arc::new(Secret::IdentityToken(token.to_owned()))))
    }

    /// A token that was handed on by who has the credentials. It serves the reads that it was given for, and nobody is
    /// asked for another one in its name.
    pub fn pull_token(token: &str) -> Result<Self, CredentialsError> {
        Self::bounded(token.len())?;
        let is_of_a_token = |c: char| c.is_ascii_graphic();
        if token.is_empty() || !token.chars().all(is_of_a_token) {
            return Err(CredentialsError::new("a token is a word of printable ASCII"));
        }
        Ok(Self(Arc::new(Secret::PullToken(token.to_owned()))))
    }

    /// Those of a file that holds nothing else: one line, `user:password`.
    pub fn of_line(text: &[u8]) -> Result<Self, CredentialsError> {
        let text = std::str::from_utf8(text).map_err(|_| CredentialsError::new("it is no text in UTF-8"))?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        match line.split_once(':') {
            _ if line.contains(char::is_control) => Err(CredentialsError::new("it is more than one line of text")),
            Some((user, password)) if !user.is_empty() && !password.is_empty() => Self::password(user, password),
            _ => Err(CredentialsError::new("it is not a user name, a colon and a password")),
        }
    }

    /// Those for a repository in a Docker configuration, as Kubernetes keeps it in a Secret of the type
    /// `kubernetes.io/dockerconfigjson` (or, without `auths` around it, `kubernetes.io/dockercfg`); `None` where it has
    /// none.
    ///
    /// Which entry serves is decided as Kubernetes does it
    /// (<https://kubernetes.io/docs/concepts/containers/images/#config-json>): a key is a host, or a host and the
    /// beginning of a path; `*` in a host stands for a part of one label; the most specific key is taken.
    /// `https://index.docker.io/v1/` is Docker Hub.
    pub fn from_docker_config(json: &[u8], registry: &str, repository: &str) -> Result<Option<Self>, CredentialsError> {
        docker_config::find(json, registry, repository)
    }

    /// Those that this machine's user has for a registry, as `docker login` and its like left them: in `config.json` in
    /// `$DOCKER_CONFIG` or `~/.docker`, or with the credential helper that it names. `None` where there are none.
    ///
    /// It blocks, for as long as a helper takes that asks the user something.
    pub fn of_user(registry: &str) -> Result<Option<Self>, CredentialsError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match user_config(variable) {
            Some(path) => Self::of_config(&path, registry),
            None => Ok(None),
        }
    }

    fn of_config(path: &Path, registry: &str) -> Result<Option<Self>, CredentialsError> {
        let problem = |problem: String| CredentialsError(format!("{}: {problem}", path.display()));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(problem(error.to_string())),
        };
        // The name under which `docker login` keeps Docker Hub.
        let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
        let found = docker_credential::get_credential_from_reader(file.take(LARGEST as u64), server);
        match found {
            Ok(DockerCredential::UsernamePassword(user, password)) => Self::password(&user, &password).map(Some),
            Ok(DockerCredential::IdentityToken(token)) => Self::identity_token(&token).map(Some),
            Err(error) => match in_words(&error, server) {
                Some(words) => return Err(problem(words)),
                None => return Ok(None),
            },
        }
        .map_err(|error| problem(error.0))
    }

    /// `Basic …`, marked as sensitive; `None` where there is no password to put in.
    pub fn basic(&self) -> Option<HeaderValue> {
        let Secret::Password { user, password } = &*self.0 else { return None };
        sensitive(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// `Bearer …`, marked as sensitive, of a token that was handed on.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        let Secret::PullToken(token) = &*self.0 else { return None };
        sensitive(&format!("Bearer {token}"))
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    fn bounded(length: usize) -> Result<(), CredentialsError> {
        if length > LONGEST {
            return Err(CredentialsError::new(format_args!("longer than {LONGEST} bytes, which no registry takes")));
        }
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

impl CredentialsError {
    pub(crate) fn new(problem: impl fmt::Display) -> Self {
        Self(problem.to_string())
    }
}

fn sensitive(header: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(header).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Where Docker's own tools look.
fn user_config(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")))?;
    Some(folder.join("config.json"))
}

/// What is wrong; `None` where there are no credentials, which is nothing wrong. A helper's output is not passed on: it
/// may hold anything.
fn in_words(error: &CredentialRetrievalError, server: &str) -> Option<String> {
    use CredentialRetrievalError::{
        ConfigNotFound, ConfigReadError, CredentialDecodingError, CredentialMismatchError, HelperCommunicationError,
        HelperFailure, MalformedHelperResponse, NoCredentialConfigured,
    };
    let words = match error {
        ConfigNotFound | NoCredentialConfigured => return None,
        // What every helper says
        // (https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go).
        HelperFailure { stdout, .. } if stdout.trim() == "credentials not found in native keychain" => return None,
        HelperFailure { helper, .. } => {
            format!("{helper} fails. `echo {server} | {helper} get` shows why")
        }
        HelperCommunicationError => {
            "the credential helper that it names cannot be run: is it installed, and in the PATH?".to_owned()
        }
        MalformedHelperResponse => "the credential helper that it names answers with something else".to_owned(),
        CredentialDecodingError => {
            format!("the `auth` of {server} is not the base64 of a user name, a colon and a password")
        }
        CredentialMismatchError => format!("the `auth` of {server} is for another user than its `username`"),
        ConfigReadError => "it is no Docker configuration".to_owned(),
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_password_is_in_no_text() {
        let credentials = Credentials::password("user", "hush").unwrap();
        let header = credentials.basic().unwrap();
        assert_eq!(header, "Basic dXNlcjpodXNo");
        for text in [format!("{credentials:?}"), format!("{:?}", Some(&credentials)), format!("{header:?}")] {
            assert!(!text.contains("hush") && !text.contains("dXNlcjpodXNo"), "{text}");
        }
    }

    #[test]
    fn an_identity_token_is_no_password() {
        let credentials = Credentials::identity_token("hush").unwrap();
        assert_eq!(credentials.basic(), None);
        assert_eq!(format!("{credentials:?}"), "Credentials(redacted)");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let long = "x".repeat(LONGEST + 1);
        assert!(Credentials::password("us:er", "x").unwrap_err().to_string().contains("no colon"));
        assert!(Credentials::password("user", &long).unwrap_err().to_string().contains("32768"));
        assert!(Credentials::identity_token(&long).unwrap_err().to_string().contains("32768"));
    }

    #[rstest]
    #[case(b"user:hush")]
    #[case(b"user:hush\n")]
    fn a_line_holds_a_user_and_a_password(#[case] line: &[u8]) {
        assert_eq!(Credentials::of_line(line).unwrap(), Credentials::password("user", "hush").unwrap());
    }

    #[rstest]
    #[case(b"", "not a user name")]
    #[case(b"user:", "not a user name")]
    #[case(b":hush", "not a user name")]
    #[case(b"hush\n", "not a user name")]
    #[case(b"user:hush\nother:hush\n", "more than one line")]
    #[case(b"user:hush\r\n", "more than one line")]
    #[case(b"user:\xff", "UTF-8")]
    fn another_line_is_refused_and_not_quoted(#[case] line: &[u8], #[case] part: &str) {
        let error = Credentials::of_line(line).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("hush"), "{error}");
    }

    #[rstest]
    #[case(&[("DOCKER_CONFIG", "/d"), ("HOME", "/h")], Some("/d/config.json"))]
    #[case(&[("HOME", "/h")], Some("/h/.docker/config.json"))]
    #[case(&[], None)]
    fn a_user_s_configuration_is_where_docker_looks(#[case] variables: &[(&str, &str)], #[case] path: Option<&str>) {
        let variable = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into());
        assert_eq!(user_config(variable).as_deref(), path.map(Path::new));
    }

    fn of_config(text: &str, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Credentials::of_config(&path, registry)
    }

    #[test]
    fn a_user_has_what_docker_login_left() {
        let text =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpodXNo"},"ghcr.io":{"identitytoken":"t"}}}"#;
        assert_eq!(of_config(text, "docker.io").unwrap(), Credentials::password("user", "hush").ok());
        assert_eq!(of_config(text, "ghcr.io").unwrap(), Credentials::identity_token("t").ok());
        assert_eq!(of_config(text, "quay.io").unwrap(), None);
        assert_eq!(Credentials::of_config(Path::new("/nowhere/config.json"), "quay.io").unwrap(), None);
    }

    #[rstest]
    #[case("{", "no Docker configuration")]
    #[case(r#"{"auths":{"ghcr.io":{"auth":"aHVzaA=="}}}"#, "not the base64 of a user name")]
    #[case(r#"{"auths":{"ghcr.io":{"auth":"dXNlcjpodXNo","username":"hush","password":"x"}}}"#, "another user")]
    #[case(r#"{"credHelpers":{"ghcr.io":"that-nobody-has"}}"#, "cannot be run")]
    fn what_is_wrong_with_a_user_s_configuration_is_told(#[case] text: &str, #[case] part: &str) {
        let error = of_config(text, "ghcr.io").unwrap_err().to_string();
        assert!(error.contains("config.json: ") && error.contains(part) && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_helper_that_has_nothing_is_told_from_one_that_fails() {
        let failure = |stdout: &str| CredentialRetrievalError::HelperFailure {
            helper: "docker-credential-x".to_owned(),
            stdout: stdout.to_owned(),
            stderr: "hush".to_owned(),
        };
        assert_eq!(in_words(&failure("credentials not found in native keychain\n"), "ghcr.io"), None);
        let words = in_words(&failure("hush"), "ghcr.io").unwrap();
        assert!(words.contains("`echo ghcr.io | docker-credential-x get`") && !words.contains("hush"), "{words}");
    }
}
