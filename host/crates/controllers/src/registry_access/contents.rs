use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use cache_registry_registry::{Credentials, CredentialsError};
use k8s_openapi::ByteString;

/// What the Secret holds, by its keys.
pub(super) type Data = BTreeMap<String, ByteString>;

/// One who may use the registry: as what it says its name, and as what the registry knows it.
struct Role {
    /// The key of its line, `user:password`; the user of a new one is called so as well.
    line: &'static str,
    /// The key of the htpasswd file of the listener that lets it in.
    htpasswd: &'static str,
}

/// The key of the proxies' line.
pub(crate) const PROXY_LINE: &str = "proxy";

const CONTROLLERS: Role = Role { line: "controllers", htpasswd: "htpasswd.controllers" };
const PROXY: Role = Role { line: PROXY_LINE, htpasswd: "htpasswd.proxy" };

/// The key of what the registry's replicas sign the state of uploads with, so that each knows the others' (`http.secret` in
/// <https://distribution.github.io/distribution/about/configuration/#http>).
const UPLOADS: &str = "uploads";

/// The lowest there is. A high cost makes guessing slow, and nobody guesses 256 random bits; but distribution checks
/// the password anew at every request.
const COST: u32 = 4;

/// A hash that takes longer than this to check would take that at every request as well: it is made anew.
const HIGHEST_COST: u32 = 12;

/// Bytes of a password that bcrypt looks at.
const LONGEST_PASSWORD: usize = 72;

/// Why no credentials can be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("the system has no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error("bcrypt: {0}")]
    Hash(#[from] bcrypt::BcryptError),
}

/// What has to be written for every role to be let in; nothing where all of it is there. A line that is good stays, and
/// so does an htpasswd file that knows it, whoever else it knows.
pub(super) fn lacking(held: &Data) -> Result<Data, MakeError> {
    let mut lacking = Data::new();
    for role in [CONTROLLERS, PROXY] {
        let line = if let Some(line) = held.get(role.line).and_then(Line::read) {
            line
        } else {
            let line = Line::random(role.line)?;
            lacking.insert(role.line.to_owned(), ByteString(line.text().into_bytes()));
            line
        };
        if !held.get(role.htpasswd).is_some_and(|file| line.is_known_to(file)) {
            lacking.insert(role.htpasswd.to_owned(), ByteString(line.htpasswd()?.into_bytes()));
        }
    }
    if held.get(UPLOADS).is_none_or(|secret| secret.0.is_empty()) {
        lacking.insert(UPLOADS.to_owned(), ByteString(random()?.into_bytes()));
    }
    Ok(lacking)
}

/// The controllers' own credentials, of a Secret that lacks nothing.
pub(super) fn own(held: &Data) -> Result<Credentials, CredentialsError> {
    Credentials::of_line(held.get(CONTROLLERS.line).map_or(&[], |line| &line.0))
}

/// 256 bits in text.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// A user and a password.
struct Line {
    user: String,
    password: String,
}

impl Line {
    /// `None` where it is none that the registry could let in.
    fn read(text: &ByteString) -> Option<Self> {
        Credentials::of_line(&text.0).ok()?;
        let (user, password) = str::from_utf8(&text.0).ok()?.trim_end_matches('\n').split_once(':')?;
        let is_usable = password.len() <= LONGEST_PASSWORD;
        is_usable.then(|| Self { user: user.to_owned(), password: password.to_owned() })
    }

    /// A new one, of 256 bits.
    fn random(user: &str) -> Result<Self, MakeError> {
        Ok(Self { user: user.to_owned(), password: random()? })
    }

    fn text(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }

    /// The htpasswd file that knows it
    /// (<https://httpd.apache.org/docs/current/misc/password_encryptions.html>).
    fn htpasswd(&self) -> Result<String, MakeError> {
        let hash = bcrypt::hash_with_result(&self.password, COST)?.format_for_version(bcrypt::Version::TwoY);
        Ok(format!("{}:{hash}\n", self.user))
    }

    fn is_known_to(&self, file: &ByteString) -> bool {
        let lines = str::from_utf8(&file.0).unwrap_or_default().lines();
        lines.filter_map(|line| line.split_once(':')).any(|(user, hash)| user == self.user && self.matches(hash))
    }

    fn matches(&self, hash: &str) -> bool {
        let cost = hash.parse::<bcrypt::HashParts>().map(|parts| parts.get_cost());
        cost.is_ok_and(|cost| cost <= HIGHEST_COST) && bcrypt::verify(&self.password, hash).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn data(pairs: &[(&str, &str)]) -> Data {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().into()))).collect()
    }

    fn keys(data: &Data) -> Vec<&str> {
        data.keys().map(String::as_str).collect()
    }

    fn text<'a>(data: &'a Data, key: &str) -> &'a str {
        str::from_utf8(&data[key].0).unwrap()
    }

    /// A Secret that lacks nothing.
    fn whole() -> Data {
        lacking(&Data::new()).unwrap()
    }

    #[test]
    fn an_empty_secret_gets_all_keys_and_then_lacks_nothing() {
        let made = whole();
        assert_eq!(keys(&made), ["controllers", "htpasswd.controllers", "htpasswd.proxy", "proxy", "uploads"]);
        assert_eq!(lacking(&made).unwrap(), Data::new());
        let (user, password) = text(&made, "controllers").split_once(':').unwrap();
        assert_eq!(own(&made).unwrap(), Credentials::password(user, password).unwrap());
    }

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, other) = (whole(), whole());
        let lines = [&one, &other].map(|made| ["controllers", "proxy"].map(|key| text(made, key)));
        let mut passwords: Vec<_> = lines.as_flattened().iter().map(|line| line.split_once(':').unwrap().1).collect();
        assert!(passwords.iter().all(|password| password.len() == 43), "{passwords:?}");
        passwords.sort_unstable();
        passwords.dedup();
        assert_eq!(passwords.len(), 4);
    }

    #[test]
    fn no_listener_knows_the_other_role() {
        let made = whole();
        let knows = |line, file| Line::read(&made[line]).unwrap().is_known_to(&made[file]);
        assert!(knows("proxy", "htpasswd.proxy") && knows("controllers", "htpasswd.controllers"));
        assert!(!knows("proxy", "htpasswd.controllers") && !knows("controllers", "htpasswd.proxy"));
        assert!(text(&made, "htpasswd.proxy").starts_with("proxy:$2y$04$"), "{made:?}");
    }

    #[rstest]
    #[case("proxy", "", &["htpasswd.proxy", "proxy"])]
    #[case("proxy", "no colon", &["htpasswd.proxy", "proxy"])]
    #[case("proxy", "a:b\nc:d\n", &["htpasswd.proxy", "proxy"])]
    #[case("proxy", "another:password", &["htpasswd.proxy"])]
    #[case("htpasswd.proxy", "", &["htpasswd.proxy"])]
    #[case("uploads", "", &["uploads"])]
    #[case("uploads", "somebody's own", &[])]
    #[case("htpasswd.proxy", "proxy:$2y$04$half", &["htpasswd.proxy"])]
    #[case("htpasswd.proxy", "proxy:$2y$31$abcdefghijklmnopqrstuulzd.YqjLDl8lvpSmVj3De/fioSBHnUa", &["htpasswd.proxy"])]
    fn only_what_is_of_no_use_is_made_anew(#[case] key: &str, #[case] value: &str, #[case] expected: &[&str]) {
        let mut held = whole();
        held.extend(data(&[(key, value)]));
        let made = lacking(&held).unwrap();
        assert_eq!(keys(&made), expected);
        held.extend(made);
        assert_eq!(lacking(&held).unwrap(), Data::new());
    }

    #[test]
    fn a_key_that_was_deleted_is_made_anew_with_what_knows_it() {
        let mut held = whole();
        held.remove("controllers");
        assert_eq!(keys(&lacking(&held).unwrap()), ["controllers", "htpasswd.controllers"]);
    }

    /// `policies` and `hush` by `htpasswd -B`, beside a user more.
    #[test]
    fn credentials_of_others_stay() {
        let mut held = whole();
        let file = "someone:$2y$05$x\npolicies:$2b$05$abcdefghijklmnopqrstuulzd.YqjLDl8lvpSmVj3De/fioSBHnUa\n";
        held.extend(data(&[("controllers", "policies:hush\n"), ("htpasswd.controllers", file)]));
        assert_eq!(lacking(&held).unwrap(), Data::new());
        assert_eq!(own(&held).unwrap(), Credentials::password("policies", "hush").unwrap());
    }
}
