use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};

/// Who may read (<https://distribution.github.io/distribution/spec/auth/token/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "access", deny_unknown_fields)]
pub enum Access {
    /// Anyone, without a token.
    #[default]
    Open,
    /// Anyone with a bearer token, which `/token` gives to anyone: the way of Docker Hub.
    Tokens {
        /// How long a token serves, in seconds.
        valid_for: u64,
    },
    /// Whoever has a bearer token, which `/token` gives for this name and password by HTTP Basic. They are a test's
    /// own, so they are not hidden in logs.
    Credentials {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// Whoever shows this name and password by HTTP Basic at every request; there are no tokens.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
}

/// The tokens that were given out, and the [`Access`] in force.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    access: Access,
    tokens: HashMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    /// `repository:library/hello:pull`, or empty.
    scope: String,
    until: Instant,
}

/// A token that was just made.
pub(crate) struct Grant {
    pub(crate) token: String,
    pub(crate) valid_for: Duration,
}

const CREDENTIALS_VALID_FOR: u64 = 300;

impl Gate {
    pub(crate) fn set(&self, access: Access) {
        *self.lock() = State { access, tokens: HashMap::new() };
    }

    /// Says whether a request with this `Authorization` header may read `repository`; an empty one is the ping.
    pub(crate) fn admits(&self, authorization: Option<&str>, repository: &str) -> bool {
        let state = self.lock();
        match &state.access {
            Access::Open => return true,
            Access::Password { username, password } => return authorization == Some(&*basic(username, password)),
            Access::Tokens { .. } | Access::Credentials { .. } => {}
        }
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        token.and_then(|token| state.tokens.get(token)).is_some_and(|token| {
            token.until > Instant::now()
                && (repository.is_empty() || token.scope == format!("repository:{repository}:pull"))
        })
    }

    /// Whether a refusal asks for a password, and not for a token.
    pub(crate) fn wants_password(&self) -> bool {
        matches!(self.lock().access, Access::Password { .. })
    }

    /// A token for this scope; `None` where the credentials are not the right ones.
    pub(crate) fn grant(&self, authorization: Option<&str>, scope: &str) -> Option<Grant> {
        let mut state = self.lock();
        let seconds = match &state.access {
            Access::Open => CREDENTIALS_VALID_FOR,
            Access::Tokens { valid_for } => *valid_for,
            Access::Credentials { username, password } => {
                if authorization != Some(&basic(username, password)) {
                    return None;
                }
                CREDENTIALS_VALID_FOR
            }
            Access::Password { .. } => return None,
        };
        let valid_for = Duration::from_secs(seconds);
        let token = format!("token-{}", state.tokens.len() + 1);
        state.tokens.insert(token.clone(), Token { scope: scope.to_owned(), until: Instant::now() + valid_for });
        Some(Grant { token, valid_for })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}
