use std::fmt;
use std::time::Duration;

use crate::token::Access;
use crate::{Error, GetOptions, Object, Repository};

/// What lets its holder pull from one repository for a while: handed on in the place of the credentials that it was had
/// for. It is in no text that is made of this.
#[derive(Clone, PartialEq, Eq)]
pub struct PullToken {
    pub(crate) text: String,
    pub(crate) lasts: Duration,
}

/// What of somebody's access to a repository can be handed on to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandedOn {
    /// A token to pull from it, and for nothing else.
    Token(PullToken),
    /// Nothing, and nothing is needed: the registry lets everybody in.
    NotNeeded,
    /// Nothing: the registry wants the password itself, at every request.
    Password,
    /// Nothing: the registry's tokens are for more than pulling from this repository.
    TooGood,
}

impl PullToken {
    /// The token, a secret.
    pub fn secret(&self) -> &str {
        &self.text
    }

    /// How long it should be used from now on.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }
}

impl fmt::Debug for PullToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullToken").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

impl Repository {
    /// What can be handed on of the access that the repository's credentials give, shown by asking the registry itself
    /// for what a tag or a digest names. That it has no such thing is an answer like another one: whoever gets it was
    /// let in.
    pub async fn hand_on(&self, reference: &str) -> Result<HandedOn, Error> {
        let registry = self.itself()?;
        match registry.head(&Object::Manifest(reference.to_owned()), &GetOptions::default()).await {
            Err(error) if !error.is_absence() => return Err(error),
            _ => {}
        }
        let endpoint = registry.last_endpoint()?;
        self.connections.tokens().handed_on(endpoint, &registry.need(endpoint, Access::Pull)).await
    }
}
