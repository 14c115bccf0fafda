use std::time::Duration;

use bytes::Bytes;
use cache_registry_core::Reason;
use cache_registry_registry::artifact::pull_wasm;
use cache_registry_registry::{Connections, Credentials, Repository};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::declaration::Image;
use crate::follower::{NotFetched, PolicyRegistry};
use crate::{LARGEST_COMPONENT, Refusal};

/// Registries, with the pull secrets of the release's namespace.
pub(crate) struct Registries {
    connections: Connections,
    secrets: Api<Secret>,
}

/// The key of a Secret of the type `kubernetes.io/dockerconfigjson`
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>).
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// How long the API server may take for a Secret.
const LONGEST_GET: Duration = Duration::from_secs(10);

impl Registries {
    pub(crate) fn new(connections: Connections, client: Client, namespace: &str) -> Self {
        Self { connections, secrets: Api::namespaced(client, namespace) }
    }

    async fn repository(&self, image: &Image) -> Result<Repository, NotFetched> {
        let (registry, repository) = (image.reference.registry(), image.reference.repository());
        let credentials = match &image.pull_secret {
            Some(secret) => Some(self.credentials(secret, registry, repository).await?),
            None => None,
        };
        Ok(self.connections.upstream_as(registry, repository, credentials))
    }

    async fn credentials(&self, secret: &str, registry: &str, repository: &str) -> Result<Credentials, NotFetched> {
        let refused = |words: std::fmt::Arguments<'_>| Refusal::new("pull-secret", words);
        let found = timeout(LONGEST_GET, self.secrets.get_opt(secret)).await;
        let found = found
            .map_err(|_| refused(format_args!("the API server does not answer when asked for Secret {secret}")))?;
        let found = found.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 403 => refused(format_args!(
                "this ServiceAccount may not read Secret {secret}: name it in the release's values, or allow `get` of \
                 it by a Role"
            )),
            error => refused(format_args!("Secret {secret} cannot be read: {error}")),
        })?;
        let found = found.ok_or_else(|| {
            refused(format_args!("there is no Secret {secret} in the namespace of the ConfigMap: make it there"))
        })?;
        let config = found.data.unwrap_or_default().remove(DOCKER_CONFIG).ok_or_else(|| {
            refused(format_args!(
                "Secret {secret} has no {DOCKER_CONFIG}: make one by `kubectl create secret docker-registry`"
            ))
        })?;
        let credentials = Credentials::from_docker_config(&config.0, registry, repository)
            .map_err(|error| refused(format_args!("Secret {secret}: {error}")))?;
        Ok(credentials.ok_or_else(|| {
            refused(format_args!("Secret {secret} has nothing for {registry}/{repository}: add it, or name another"))
        })?)
    }
}

impl PolicyRegistry for Registries {
    async fn digest(&self, image: &Image) -> Result<String, NotFetched> {
        let repository = self.repository(image).await?;
        Ok(repository.resolve(&image.reference.manifest_reference()).await?.to_string())
    }

    async fn pull(&self, image: &Image) -> Result<(String, Bytes), NotFetched> {
        let repository = self.repository(image).await?;
        let reference = image.reference.manifest_reference();
        let artifact = pull_wasm(&repository, &reference, LARGEST_COMPONENT as u64).await?;
        Ok((artifact.digest.to_string(), artifact.wasm))
    }
}

impl From<Refusal> for NotFetched {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, retry_after: None }
    }
}

impl From<cache_registry_registry::Error> for NotFetched {
    fn from(error: cache_registry_registry::Error) -> Self {
        let reason = match error.reason() {
            Reason::NotFound => "image-not-found",
            Reason::Unauthorized => "image-unauthorized",
            Reason::RateLimited => "image-rate-limited",
            _ => "image-unreachable",
        };
        Self { refusal: Refusal::new(reason, &error), retry_after: error.retry_after() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock_api::MockApi;
    use cache_registry_registry::Timeouts;
    use http::Method;
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use serde_json::{Value, json};

    const PATH: &str = "/api/v1/namespaces/cache/secrets/regcred";

    fn secret(config: &Value) -> Value {
        let config = serde_json::to_value(ByteString(config.to_string().into_bytes())).unwrap();
        json!({ "metadata": { "name": "regcred" }, "data": { DOCKER_CONFIG: config } })
    }

    /// What becomes of the credentials when the API server answers so.
    async fn credentials(answer: Result<Value, (u16, &str)>) -> Result<Credentials, Refusal> {
        let (client, mut api) = MockApi::new();
        let connections =
            Connections::new(cache_registry_registry::Registries::default(), Timeouts::default()).unwrap();
        let registries = Registries::new(connections, client, "cache");
        let answering = async {
            let asked = api.expect(Method::GET, PATH).await;
            match answer {
                Ok(secret) => asked.answer(&secret),
                Err((code, reason)) => asked.refuse(code, reason),
            }
        };
        let (credentials, ()) =
            tokio::join!(registries.credentials("regcred", "reg.example", "policies/mine"), answering);
        credentials.map_err(|failure| failure.refusal)
    }

    #[tokio::test]
    async fn a_pull_secret_gives_the_credentials_of_its_registry() {
        let config = json!({ "auths": {
            "other.example": { "username": "no", "password": "no" },
            "reg.example": { "username": "someone", "password": "hush" },
        }});
        let found = credentials(Ok(secret(&config))).await.unwrap();
        assert_eq!(found, Credentials::password("someone", "hush").unwrap());
    }

    #[rstest]
    #[case::forbidden(Err((403, "Forbidden")), "may not read Secret regcred")]
    #[case::not_there(Err((404, "NotFound")), "there is no Secret regcred")]
    #[case::failing(Err((500, "InternalError")), "cannot be read")]
    #[case::of_another_type(Ok(json!({ "data": { "password": "aHVzaA==" } })), "kubectl create secret docker-registry")]
    #[case::empty(Ok(json!({})), "kubectl create secret docker-registry")]
    #[case::of_another_registry(
        Ok(secret(&json!({ "auths": { "other.example": { "username": "a", "password": "hush" } } }))),
        "nothing for reg.example/policies/mine"
    )]
    #[case::no_config(Ok(secret(&json!(["hush"]))), "Secret regcred: ")]
    #[tokio::test]
    async fn a_pull_secret_that_does_not_help_is_told(#[case] answer: Result<Value, (u16, &str)>, #[case] words: &str) {
        let refusal = credentials(answer).await.unwrap_err();
        assert_eq!(refusal.reason(), "pull-secret");
        let told = refusal.to_string();
        assert!(told.contains(words) && !told.contains("hush"), "{told}");
    }
}
