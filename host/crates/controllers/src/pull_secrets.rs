//! The Secrets that pods name for pulling their images: read when they are needed, and kept nowhere.
//!
//! A kubelet tries every credential in them that fits an image. The same is done here with those of all pods that use
//! it, so that whatever one of them could pull can be copied.

use std::fmt;
use std::sync::Arc;

use cache_registry_core::{Reason, Reference};
use cache_registry_registry::Credentials;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::lease::bounded;
use crate::plan::Failure;

/// A Secret that a pod, or the template of a workload, names in `imagePullSecrets`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PullSecret {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// Reads Secrets.
#[derive(Clone)]
pub(crate) struct PullSecrets {
    /// `None` where the controllers are not to read any.
    client: Option<Client>,
}

/// Of one image, at one attempt: an image that all namespaces use must not cost a read of each one's Secrets, over and
/// over.
const MOST_READ: usize = 40;
/// Of different credentials, at one attempt.
const MOST_TRIED: usize = 8;
/// Of names, in a message.
const MOST_NAMED: usize = 8;

/// For who has shown nothing to a registry that does not let everybody in. Without its full stop.
pub(crate) const ADVICE: &str = "Give its pods a pull secret for it; or where nodes have credentials of their own for this registry, \
                    name it in controllers.webhook.nodeRegistries and make the pods anew";

/// The types of Secrets that a kubelet pulls with, and the key of each
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>).
const TYPES: [(&str, &str); 2] =
    [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")];

impl PullSecrets {
    /// Reads any Secret that it is asked for, where that is `enabled`.
    pub(crate) fn new(client: Client, enabled: bool) -> Self {
        Self { client: enabled.then_some(client) }
    }

    /// Makes a call in the name of what each of the Secrets holds for the image, until one is let in; at last in
    /// nobody's. The first answer that is no refusal counts.
    ///
    /// An error says which Secrets were tried, and what is wrong with those that could not be.
    pub(crate) async fn each<T, F>(
        &self,
        source: &Reference,
        secrets: &[PullSecret],
        call: impl Fn(Option<Credentials>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut attempt = Attempt::default();
        let client = self.client.as_ref();
        for secret in in_turn(secrets, fastrand::usize(..)) {
            let Some(client) = client else { break };
            let credentials = match read(client, secret).await.and_then(|found| held(found, source)) {
                Ok(Some(credentials)) => credentials,
                Ok(None) => continue,
                Err(problem) => {
                    tracing::debug!(image = %source, %secret, problem = %problem.words, "this pull secret is of no use");
                    let is_last = problem.is_of_all;
                    attempt.of_no_use.push((secret.clone(), problem.words));
                    if is_last {
                        break;
                    }
                    continue;
                }
            };
            if attempt.tried.iter().any(|(_, known)| *known == credentials) {
                continue;
            }
            if attempt.tried.len() == MOST_TRIED {
                break;
            }
            attempt.tried.push((secret.clone(), credentials.clone()));
            match call(Some(credentials)).await {
                Err(failure) if is_refusal(&failure) => attempt.refusals.push(failure),
                outcome => return outcome,
            }
        }
        match call(None).await {
            Err(failure) if is_refusal(&failure) => {
                attempt.refusals.push(failure);
                Err(attempt.conclude(secrets, client.is_some()))
            }
            outcome => outcome,
        }
    }
}

/// What another one may not be told. Registries say "no such thing" to those whom they do not let in, too, and limit each
/// account by itself.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::Unauthorized | Reason::NotFound | Reason::RateLimited)
}

/// As many as are read at one attempt. Where there are more than are tried, it begins with another one each time.
fn in_turn(secrets: &[PullSecret], random: usize) -> impl Iterator<Item = &PullSecret> {
    let first = if secrets.len() > MOST_TRIED { random % secrets.len() } else { 0 };
    secrets.iter().cycle().skip(first).take(secrets.len().min(MOST_READ))
}

/// What is wrong with a Secret, and nothing of what is in it.
struct Problem {
    words: String,
    /// True where the next one would have the same.
    is_of_all: bool,
}

impl From<String> for Problem {
    fn from(words: String) -> Self {
        Self { words, is_of_all: false }
    }
}

async fn read(client: &Client, secret: &PullSecret) -> Result<Secret, Problem> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let words = match bounded(secrets.get_opt(&secret.name)).await {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => "it does not exist".to_owned(),
        Err(kube::Error::Api(status)) if status.code == 403 => "this ServiceAccount may not read it".to_owned(),
        Err(kube::Error::Api(status)) => format!("the API server answers {}", status.code),
        // The text of the error could hold a part of the answer.
        Err(error) => {
            let is_of_all = true;
            let words = match error {
                kube::Error::Service(_) | kube::Error::HyperError(_) => "the API server does not answer",
                _ => "the API server's answer can't be read",
            };
            return Err(Problem { words: words.to_owned(), is_of_all });
        }
    };
    Err(words.into())
}

/// What a Secret holds for an image.
fn held(secret: Secret, source: &Reference) -> Result<Option<Credentials>, Problem> {
    let type_ = secret.type_.unwrap_or_default();
    let Some((_, key)) = TYPES.iter().find(|(known, _)| *known == type_) else {
        return Err("it is of another type than kubernetes.io/dockerconfigjson".to_owned().into());
    };
    let config = secret.data.unwrap_or_default().remove(*key).ok_or_else(|| format!("it has no {key}"))?;
    let found = Credentials::from_docker_config(&config.0, source.registry(), source.repository());
    Ok(found.map_err(|error| error.to_string())?)
}

/// How an attempt went so far.
#[derive(Default)]
struct Attempt {
    tried: Vec<(PullSecret, Credentials)>,
    of_no_use: Vec<(PullSecret, String)>,
    /// In the order of what was tried, and at last nobody's.
    refusals: Vec<Failure>,
}

impl Attempt {
    /// The failure to tell, and in whose names it was tried. Of one that time will heal nothing else is known yet; else who
    /// was let in and found nothing knows best.
    fn conclude(mut self, secrets: &[PullSecret], may_read: bool) -> Failure {
        let of = |reason| self.refusals.iter().position(|failure| failure.reason == reason);
        let best = of(Reason::RateLimited).or_else(|| of(Reason::NotFound)).unwrap_or_default();
        let mut failure = self.refusals.swap_remove(best);
        let mut words = vec![failure.message.trim_end().to_owned()];
        if !may_read && !secrets.is_empty() {
            words.push(
                "The pull secrets of its pods were not tried: controllers.pullSecrets.enabled is false.".to_owned(),
            );
        } else if !self.tried.is_empty() {
            let names = named(self.tried.iter().map(|(secret, _)| secret.to_string()));
            words.push(format!("Tried with the pull secrets of those who use it, {names}, and without credentials."));
        } else if secrets.is_empty() {
            words.push("Nothing that uses it names a pull secret.".to_owned());
        } else if self.of_no_use.is_empty() {
            let names = named(secrets.iter().map(ToString::to_string));
            words.push(format!("The pull secrets of those who use it, {names}, hold nothing for this registry."));
        }
        if failure.reason == Reason::Unauthorized && self.tried.is_empty() && (may_read || secrets.is_empty()) {
            words.push(format!("{ADVICE}."));
        }
        if !self.of_no_use.is_empty() {
            let problems = self.of_no_use.iter().map(|(secret, problem)| format!("{secret} ({problem})"));
            words.push(format!("Pull secrets of no use: {}.", named(problems)));
        }
        failure.message = words.join(" ");
        failure
    }
}

fn named(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(MOST_NAMED);
    let names = all.take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{names} and {more} more") } else { names }
}

impl fmt::Display for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
