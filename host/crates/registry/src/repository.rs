use std::sync::Arc;

use cache_registry_core::{Digest, Hasher, parse_digest};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use url::Url;

use crate::asked::Asked;
use crate::exchange::{Answer, Ask, Endpoint, Payload};
use crate::manifest::{self, media_type};
use crate::retry::retried;
use crate::token::{Access, Need};
use crate::{Body, Connections, Error, Manifest};

/// A repository of a registry
/// ([OCI distribution specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md)).
///
/// Where the registries file gives mirrors, a read that fails at one goes to the next, and at last to the registry
/// itself, whose error is the one that is told. Writes go to the registry itself.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) connections: Connections,
    endpoints: Result<Arc<[Endpoint]>, Error>,
    pub(crate) name: Arc<str>,
}

/// What a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// A manifest or an index, by its tag or its digest.
    Manifest(String),
    /// A configuration or a layer.
    Blob(Digest),
}

/// What to say in a GET or a HEAD.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// The values of `Accept`, which are sent as one line. Empty: for a manifest, all that a runtime can use.
    pub accept: Vec<HeaderValue>,
    /// `Range`, passed on as it is.
    pub range: Option<HeaderValue>,
}

/// What a registry tells of a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// `Docker-Content-Digest`, where the registry sends a digest that can be checked.
    pub digest: Option<Digest>,
    /// `Content-Type`, without parameters.
    pub media_type: Option<String>,
    /// `Content-Length`.
    pub size: Option<u64>,
}

pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What the specification asks registries to take
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>).
const LARGEST_MANIFEST: usize = 4 * 1024 * 1024;
const TRIES: usize = 4;

impl Repository {
    pub(crate) fn new(connections: Connections, endpoints: Result<Arc<[Endpoint]>, Error>, name: &str) -> Self {
        Self { connections, endpoints, name: name.into() }
    }

    /// Asks for an object. Returns any final answer below 400, and 416, with its headers as they came.
    ///
    /// The bytes are not checked against a digest: who passes them on does that.
    pub async fn get(&self, object: &Object, options: &GetOptions) -> Result<Response<Body>, Error> {
        Ok(self.read(Method::GET, object, options).await?.response)
    }

    /// Like [`Self::get`], without the body.
    pub async fn head(&self, object: &Object, options: &GetOptions) -> Result<Response<Body>, Error> {
        Ok(self.read(Method::HEAD, object, options).await?.response)
    }

    /// A manifest or an index by tag or digest, complete and checked. For a tag, the digest is the one that the
    /// registry says, or sha256.
    pub async fn get_manifest(&self, reference: &str) -> Result<Manifest, Error> {
        let object = Object::Manifest(reference.to_owned());
        let mut failure = None;
        for endpoint in self.endpoints()? {
            let answer = self.ask(endpoint, Method::GET, &object, &GetOptions::default()).await;
            let manifest = match answer {
                Ok(answer) => read_manifest(reference, answer).await,
                Err(error) => Err(error),
            };
            match manifest {
                Ok(manifest) => return Ok(manifest),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| self.addressless()))
    }

    /// What a registry has under a tag or a digest; `None` where it has nothing.
    pub async fn head_manifest(&self, reference: &str) -> Result<Option<Existing>, Error> {
        let head = self.head(&Object::Manifest(reference.to_owned()), &GetOptions::default()).await;
        let Some(response) = found(head)? else { return Ok(None) };
        let media_type = text(response.headers(), &CONTENT_TYPE).and_then(|kind| kind.split(';').next());
        Ok(Some(Existing {
            digest: content_digest(response.headers()),
            media_type: media_type.map(|kind| kind.trim().to_owned()),
            size: content_length(response.headers()),
        }))
    }

    /// The digest of what a tag names now, without fetching it where the registry tells: rate limits count a HEAD for
    /// less than a GET. A digest is itself, and nothing is asked.
    pub async fn resolve(&self, reference: &str) -> Result<Digest, Error> {
        if let Ok(digest) = parse_digest(reference) {
            return Ok(digest);
        }
        let told = match retried(TRIES, || self.head_manifest(reference)).await {
            Ok(existing) => existing.and_then(|existing| existing.digest),
            Err(error) if error.status() == Some(StatusCode::METHOD_NOT_ALLOWED) => None,
            Err(error) => return Err(error),
        };
        match told {
            Some(digest) => Ok(digest),
            // A registry that answers no HEAD, or tells no digest, or cannot say in a HEAD why there is nothing.
            None => Ok(retried(TRIES, || self.get_manifest(reference)).await?.digest),
        }
    }

    /// True where the repository has a blob, of this size as far as the registry tells.
    pub async fn blob_exists(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let head = self.head(&Object::Blob(digest.clone()), &GetOptions::default()).await;
        let length = found(head)?.map(|response| content_length(response.headers()));
        Ok(length.is_some_and(|length| length.is_none_or(|length| length == size)))
    }

    async fn read(&self, method: Method, object: &Object, options: &GetOptions) -> Result<Answer, Error> {
        let mut failure = None;
        for endpoint in self.endpoints()? {
            match self.ask(endpoint, method.clone(), object, options).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::debug!(%error, "not read here");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| self.addressless()))
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        method: Method,
        object: &Object,
        options: &GetOptions,
    ) -> Result<Answer, Error> {
        let (kind, reference) = match object {
            Object::Manifest(reference) => ("manifests", reference.clone()),
            Object::Blob(digest) => ("blobs", digest.to_string()),
        };
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept(object, &options.accept) {
            headers.insert(ACCEPT, accept);
        }
        if let Some(range) = &options.range {
            headers.insert(RANGE, range.clone());
        }
        let url = self.url(endpoint, &[kind, &reference]);
        self.pull(endpoint, method, url, headers, parse_digest(&reference).is_ok()).await
    }

    /// A read at a URL of this repository.
    pub(crate) async fn pull(
        &self,
        endpoint: &Endpoint,
        method: Method,
        url: Url,
        headers: HeaderMap,
        is_content_addressed: bool,
    ) -> Result<Answer, Error> {
        let (repository, within) = (Arc::clone(&self.name), endpoint.waits.first_byte);
        let ask = Ask { method, url, headers, repository, within, is_content_addressed, is_for_token: false };
        endpoint.send(self.connections.tokens(), &self.need(endpoint, Access::Pull), ask, Payload::Empty).await
    }

    /// `/v2/<prefix of the endpoint>/<repository>/<tail>`. No part of it can leave its place.
    pub(crate) fn url(&self, endpoint: &Endpoint, tail: &[&str]) -> Url {
        let mut url = endpoint.url.clone();
        let prefix = endpoint.url.path().split('/').filter(|part| !part.is_empty());
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().push("v2").extend(prefix).extend(self.name.split('/')).extend(tail);
        }
        url
    }

    pub(crate) fn need(&self, endpoint: &Endpoint, access: Access) -> Need {
        let (endpoint, credentials) = (endpoint.url.clone(), endpoint.credentials.clone());
        Need { endpoint, credentials, repository: Arc::clone(&self.name), access }
    }

    /// The same repository, once for each address: each mirror's, and at last the registry's own.
    pub(crate) fn places(&self) -> Result<impl Iterator<Item = Self> + '_, Error> {
        let alone = |endpoint: &Endpoint| Ok(Arc::from([endpoint.clone()]));
        let (connections, name) = (&self.connections, &self.name);
        Ok(self.endpoints()?.iter().map(move |endpoint| Self::new(connections.clone(), alone(endpoint), name)))
    }

    /// The same repository without its mirrors, which say nothing of what the registry itself has.
    pub(crate) fn itself(&self) -> Result<Self, Error> {
        self.places()?.last().ok_or_else(|| self.addressless())
    }

    pub(crate) fn addressless(&self) -> Error {
        Error::nowhere(&self.name, "it has no address")
    }

    /// The registry itself.
    pub(crate) fn last_endpoint(&self) -> Result<&Endpoint, Error> {
        self.endpoints()?.last().ok_or_else(|| self.addressless())
    }

    /// What the repository holds cannot be used, and asking again would not help.
    pub(crate) fn unusable(&self, problem: impl std::fmt::Display) -> Error {
        self.asked(&[]).map_or_else(|error| error, |asked| asked.unusable(problem))
    }

    /// What the repository holds is of a kind that cannot be copied.
    pub(crate) fn unsupported(&self, problem: impl std::fmt::Display) -> Error {
        self.asked(&[]).map_or_else(|error| error, |asked| asked.unsupported(problem))
    }

    /// A read of the registry itself, as an error tells of it.
    pub(crate) fn asked(&self, tail: &[&str]) -> Result<Asked, Error> {
        let endpoint = self.last_endpoint()?;
        Ok(endpoint.asked(&self.name, Method::GET, self.url(endpoint, tail)))
    }

    fn endpoints(&self) -> Result<&[Endpoint], Error> {
        self.endpoints.as_deref().map_err(Clone::clone)
    }
}

/// One line, because there are registries that read only the first.
fn accept(object: &Object, values: &[HeaderValue]) -> Option<HeaderValue> {
    match (values, object) {
        ([], Object::Manifest(_)) => Some(HeaderValue::from_static(manifest::ACCEPT)),
        ([], Object::Blob(_)) => None,
        (values, _) => {
            let line = values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
            HeaderValue::from_bytes(&line).ok()
        }
    }
}

async fn read_manifest(reference: &str, answer: Answer) -> Result<Manifest, Error> {
    let asked = answer.asked;
    let (parts, body) = answer.response.into_parts();
    let bytes = body.whole(LARGEST_MANIFEST).await?;
    let wanted = parse_digest(reference).ok().or_else(|| content_digest(&parts.headers));
    let digest = match wanted {
        Some(wanted) => {
            Hasher::check(&wanted, &bytes)
                .map_err(|error| asked.garbled(format_args!("the manifest is not what it should be: {error}")))?;
            wanted
        }
        None => Hasher::sha256(&bytes),
    };
    let media_type = media_type(parts.headers.get(CONTENT_TYPE), &bytes);
    let media_type = media_type.map_err(|problem| asked.unsupported(problem))?;
    Ok(Manifest { media_type, digest, bytes })
}

/// Makes an absence of an error for it.
fn found(head: Result<Response<Body>, Error>) -> Result<Option<Response<Body>>, Error> {
    match head {
        Ok(response) => Ok(Some(response)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    text(headers, &DOCKER_CONTENT_DIGEST).and_then(|digest| parse_digest(digest).ok())
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}
