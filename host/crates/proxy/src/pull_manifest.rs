use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use cache_registry_core::{Digest, Hasher, parse_digest};
use cache_registry_registry::{self as registry, GetOptions, Object};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use crate::ask::Question;
use crate::fault::{Course, Fault};
use crate::legs::{Leg, Step};
use crate::manifests::Manifest;
use crate::pull_blob::content_length;
use crate::record::Record;
use crate::refusal::{Kind, Refusal};
use crate::route::{ManifestReference, Name};
use crate::{DOCKER_CONTENT_DIGEST, Proxy, SERVED_BY};

/// The size that registries accept at most
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>).
const LARGEST: usize = 4 << 20;

/// What a runtime can use. distribution answers 404 for an index when it is not named, so the cache is always told all
/// of them; who asks for a tag gets what the tag names.
const KNOWN_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, */*";

/// What a leg gave for a manifest.
enum Found {
    /// All of it, checked.
    Whole(Arc<Manifest>),
    /// What an upstream tells of it in a HEAD.
    Head(Told),
}

/// All that a client takes from a HEAD.
struct Told {
    media_type: HeaderValue,
    digest: Digest,
    length: u64,
}

impl Proxy {
    /// Answers GET and HEAD of `/v2/<name>/manifests/<reference>`.
    pub(crate) async fn pull_manifest(
        &self,
        method: &Method,
        headers: &HeaderMap,
        name: &Name,
        reference: &ManifestReference,
        record: &mut Record,
    ) -> Response {
        if let Some(manifest) = self.manifests.get(name, reference).await {
            return respond(method, &manifest, record, "memory");
        }
        let accept: Vec<HeaderValue> = headers.get_all(ACCEPT).iter().cloned().collect();
        let mut course = Course::default();
        loop {
            let step = course.next();
            if step == Step::Refuse {
                let refusal = Refusal::of(&course, name, Kind::Manifest);
                record.answers(refusal.status, "nobody");
                return refusal.into_response();
            }
            match self.find_manifest(step, method, &accept, name, reference).await {
                Ok(Found::Whole(manifest)) => {
                    self.manifests.keep(name, reference, &manifest).await;
                    return respond(method, &manifest, record, step.leg().as_str());
                }
                Ok(Found::Head(told)) => {
                    record.answers(StatusCode::OK, step.leg().as_str());
                    return describe(told.media_type, &told.digest, told.length, step.leg(), Body::empty());
                }
                Err(fault) => course.failed(step, fault),
            }
        }
    }

    async fn find_manifest(
        &self,
        step: Step,
        method: &Method,
        accept: &[HeaderValue],
        name: &Name,
        reference: &ManifestReference,
    ) -> Result<Found, Fault> {
        let leg = step.leg();
        let mut accept = accept.to_vec();
        if leg == Leg::Cache || accept.is_empty() {
            accept.push(HeaderValue::from_static(KNOWN_TYPES));
        }
        // An upstream may count a GET against its limit of pulls, and a HEAD not. The cache is near: the whole is
        // taken even for a HEAD, so that what is told of it is checked, and the GET that follows is in memory.
        let method = if leg == Leg::Cache { Method::GET } else { method.clone() };
        let options = GetOptions { accept, range: None };
        let object = Object::Manifest(reference.to_string());
        let mut question = Question { method, object, options };
        let mut response = self.ask(step, name, &question).await?;
        if question.method == Method::HEAD {
            if let Some(told) = told(response.headers(), reference) {
                return Ok(Found::Head(told));
            }
            // Without the digest containerd asks with GET itself, and gets one that was not computed by us. A length
            // that is not told would be 0 to it, and another digest than the one asked for is nothing to pass on.
            question.method = Method::GET;
            response = self.ask(step, name, &question).await?;
        }
        let begun = Instant::now();
        match read(response, reference, leg, self.config.manifest_wait).await {
            Ok(manifest) => Ok(Found::Whole(Arc::new(manifest))),
            Err(fault) => {
                self.broke_off(step, name, &fault, begun);
                Err(fault)
            }
        }
    }
}

/// Reads a manifest to its end and checks it: against the digest that it was asked for by, else against the one that
/// its registry tells.
async fn read(
    response: http::Response<registry::Body>,
    reference: &ManifestReference,
    leg: Leg,
    wait: Duration,
) -> Result<Manifest, Fault> {
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        return Err(Fault::useless(parts.status, format!("answered {} to a GET of a manifest", parts.status)));
    }
    let bytes = match timeout(wait, collect(body)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(Fault::sick(format!("the manifest did not come within {wait:?}"))),
    };
    let told = told_digest(&parts.headers);
    let expected = match reference {
        ManifestReference::Digest(digest) => Some(digest),
        ManifestReference::Tag(_) => told.as_ref(),
    };
    let digest = match expected {
        Some(digest) => {
            Hasher::check(digest, &bytes).map_err(|error| Fault::wrong_bytes(error.to_string()))?;
            digest.clone()
        }
        None => Hasher::sha256(&bytes),
    };
    let media_type = parts.headers.get(CONTENT_TYPE).cloned();
    let media_type = media_type.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
    Ok(Manifest { media_type, digest, bytes, leg })
}

async fn collect(mut body: registry::Body) -> Result<Bytes, Fault> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > LARGEST {
                return Err(Fault::useless(StatusCode::OK, format!("the manifest is larger than {LARGEST} bytes")));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// `None` where a part is missing, or is not of what was asked for.
fn told(headers: &HeaderMap, reference: &ManifestReference) -> Option<Told> {
    let digest = told_digest(headers)?;
    if matches!(reference, ManifestReference::Digest(asked) if *asked != digest) {
        return None;
    }
    Some(Told { media_type: headers.get(CONTENT_TYPE)?.clone(), digest, length: content_length(headers)? })
}

fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    parse_digest(headers.get(DOCKER_CONTENT_DIGEST)?.to_str().ok()?).ok()
}

fn respond(method: &Method, manifest: &Manifest, record: &mut Record, served_by: &'static str) -> Response {
    record.answers(StatusCode::OK, served_by);
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        record.sent(manifest.leg, manifest.bytes.len() as u64);
        Body::from(manifest.bytes.clone())
    };
    let Manifest { media_type, digest, bytes, leg } = manifest;
    describe(media_type.clone(), digest, bytes.len() as u64, *leg, body)
}

fn describe(media_type: HeaderValue, digest: &Digest, length: u64, leg: Leg, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    insert_digest(headers, digest);
    headers.insert(SERVED_BY, HeaderValue::from_static(leg.as_str()));
    response
}

/// `Docker-Content-Digest` and `ETag`.
pub(crate) fn insert_digest(headers: &mut HeaderMap, digest: &Digest) {
    let text = digest.to_string();
    if let (Ok(tag), Ok(digest)) = (HeaderValue::try_from(format!("\"{text}\"")), HeaderValue::try_from(text)) {
        headers.insert(DOCKER_CONTENT_DIGEST, digest);
        headers.insert(ETAG, tag);
    }
}
