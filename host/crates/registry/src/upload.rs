use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cache_registry_core::{Digest, Hasher};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use url::Url;

use crate::connect::{BoxError, host_and_port};
use crate::exchange::{Answer, Ask, Endpoint, Payload, Sending, Sent};
use crate::repository::content_digest;
use crate::token::Access;
use crate::{Error, Manifest, Repository};

/// Writes (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push>).
impl Repository {
    /// Sends a blob while it arrives. It is committed only when its digest and its size are right, and nothing of it
    /// is left when anything fails.
    pub async fn push_blob<B>(&self, digest: &Digest, size: u64, body: B) -> Result<(), Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self.begin_upload(None).await? {
            Begun::Mounted => Ok(()),
            Begun::Session(session) => self.finish_upload(session, digest, size, body).await,
        }
    }

    /// Takes a blob over from another repository of the same registry, without sending it. False where the registry
    /// does not: the repository does not have it, or it may not be read.
    pub async fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, Error> {
        match self.begin_upload(Some((digest, from))).await? {
            Begun::Mounted => Ok(true),
            Begun::Session(session) => {
                self.cancel(session).await;
                Ok(false)
            }
        }
    }

    /// Puts a manifest under a tag or its digest. What it refers to must be there.
    pub async fn push_manifest(&self, reference: &str, manifest: &Manifest) -> Result<(), Error> {
        let endpoint = self.last_endpoint()?;
        let kind = HeaderValue::from_str(&manifest.media_type);
        let url = self.url(endpoint, &["manifests", reference]);
        let asked = endpoint.asked(&self.name, Method::PUT, url.clone());
        let kind = kind.map_err(|_| asked.unusable("the manifest's media type cannot be sent"))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let answer = self.write(endpoint, Method::PUT, url, headers, Payload::Bytes(manifest.bytes.clone())).await?;
        match content_digest(answer.response.headers()) {
            Some(stored) if stored.algorithm() == manifest.digest.algorithm() && stored != manifest.digest => {
                Err(asked.unusable(format_args!("stored as {stored}, not as {}", manifest.digest)))
            }
            _ => Ok(()),
        }
    }

    /// Opens an upload, or does without one where the blob can be mounted.
    pub(crate) async fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Begun, Error> {
        let endpoint = self.last_endpoint()?;
        // The path ends with a slash.
        let mut url = self.url(endpoint, &["blobs", "uploads", ""]);
        if let Some((digest, from)) = mount {
            url.query_pairs_mut().append_pair("mount", digest.as_ref()).append_pair("from", from);
        }
        let answer = self.write(endpoint, Method::POST, url, nothing(), Payload::Empty).await?;
        if mount.is_some() && answer.response.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        Ok(Begun::Session(session(endpoint, &answer)?))
    }

    /// Sends a blob into an upload and commits it.
    pub(crate) async fn finish_upload<B>(&self, at: Url, digest: &Digest, size: u64, body: B) -> Result<(), Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let sent = self.stream(at.clone(), digest, size, body).await;
        let committed = match sent {
            Ok(next) => self.commit(next, digest).await,
            Err(error) => Err(error),
        };
        if committed.is_err() {
            self.cancel(at).await;
        }
        committed
    }

    async fn stream<B>(&self, at: Url, digest: &Digest, size: u64, body: B) -> Result<Url, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let endpoint = self.last_endpoint()?;
        let asked = Arc::new(endpoint.asked(&self.name, Method::PATCH, at.clone()));
        let hasher = Hasher::expecting(digest).map_err(|error| asked.unusable(error))?;
        let (sending, is_right) = (Arc::new(Sending::new()), Arc::new(AtomicBool::new(false)));
        let mut checked = Checked {
            bytes: body.map_err(Into::into).boxed_unsync(),
            hasher: Some(hasher),
            left: size,
            sending: Arc::clone(&sending),
            is_right: Arc::clone(&is_right),
            wrong: {
                let asked = Arc::clone(&asked);
                Box::new(move |problem| asked.wrong_source(problem))
            },
        };
        // A body without bytes is never looked into.
        if size == 0 {
            checked.check()?;
            checked.sending.waits_for_answer();
        }
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let payload = Payload::Stream(checked.boxed_unsync(), sending);
        let answer = self.write(endpoint, Method::PATCH, at, headers, payload).await?;
        if !is_right.load(Ordering::Acquire) {
            return Err(asked.garbled("answered before it had the whole blob"));
        }
        session(endpoint, &answer)
    }

    async fn commit(&self, mut at: Url, digest: &Digest) -> Result<(), Error> {
        let endpoint = self.last_endpoint()?;
        at.query_pairs_mut().append_pair("digest", digest.as_ref());
        self.write(endpoint, Method::PUT, at, nothing(), Payload::Empty).await?;
        Ok(())
    }

    /// Gives an upload up. A registry that does not hear it forgets the upload by itself after some days.
    async fn cancel(&self, at: Url) {
        let Ok(endpoint) = self.last_endpoint() else { return };
        // Who failed waits for this: not for as long as a commit may take.
        let within = endpoint.waits.first_byte;
        let cancelling = self.write(endpoint, Method::DELETE, at, HeaderMap::new(), Payload::Empty);
        match tokio::time::timeout(within, cancelling).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an upload was not given up"),
            Err(_) => tracing::debug!(?within, "an upload was not given up in time"),
        }
    }

    pub(crate) async fn write(
        &self,
        endpoint: &Endpoint,
        method: Method,
        url: Url,
        headers: HeaderMap,
        payload: Payload,
    ) -> Result<Answer, Error> {
        let (repository, within) = (Arc::clone(&self.name), endpoint.waits.commit);
        let ask = Ask { method, url, headers, repository, within, is_content_addressed: false, is_for_token: false };
        let answer = endpoint.send(self.connections.tokens(), &self.need(endpoint, Access::Push), ask, payload).await?;
        // 416 is an answer to a read. To a write it says that nothing was written.
        match answer.response.status() {
            status if status.is_success() => Ok(answer),
            status => Err(answer.asked.garbled(format_args!("not written: it answers {status}"))),
        }
    }
}

/// What came of asking for an upload.
pub(crate) enum Begun {
    /// The blob is there.
    Mounted,
    /// Where it is to be sent.
    Session(Url),
}

/// Registries refuse a POST or a PUT that does not say that it is empty.
fn nothing() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("0"))])
}

/// Where the upload goes on: on the same registry, whatever `Location` says.
fn session(endpoint: &Endpoint, answer: &Answer) -> Result<Url, Error> {
    let location = answer.response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| answer.asked.url.join(location).ok());
    let mut next = next.ok_or_else(|| answer.asked.garbled("an upload without a usable Location"))?;
    // Behind a proxy that ends TLS, a registry may take itself for one that speaks plain HTTP.
    if next.host_str() == endpoint.url.host_str() && next.port() == endpoint.url.port() {
        let _ = next.set_scheme(endpoint.url.scheme());
    }
    if host_and_port(&next) != host_and_port(&endpoint.url) {
        let host = next.host_str().unwrap_or_default();
        return Err(answer.asked.unusable(format_args!(
            "the upload is sent on to {host}, which is not followed. Set the registry's external address right \
             (`http.host`, or `http.relativeurls: true`)"
        )));
    }
    Ok(next)
}

/// A blob on its way into the registry. Its last bytes are handed on only when the digest of all of them is right.
struct Checked {
    bytes: Sent,
    hasher: Option<Hasher>,
    left: u64,
    sending: Arc<Sending>,
    is_right: Arc<AtomicBool>,
    wrong: Box<dyn Fn(String) -> Error + Send>,
}

impl Checked {
    /// Takes in the next bytes; with the last ones, checks them all.
    fn take(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let length = bytes.len() as u64;
        self.left = self.left.checked_sub(length).ok_or_else(|| (self.wrong)("there is more of it".to_owned()))?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if self.left == 0 { self.check() } else { Ok(()) }
    }

    fn check(&mut self) -> Result<(), Error> {
        if let Some(hasher) = self.hasher.take() {
            hasher.finish().map_err(|error| (self.wrong)(error.to_string()))?;
            self.is_right.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl http_body::Body for Checked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            this.sending.waits_for_source();
            let frame = match ready!(Pin::new(&mut this.bytes).poll_frame(cx)) {
                Some(frame) => frame?,
                None if this.left > 0 => {
                    let problem = format!("it ended {} bytes too early", this.left);
                    return Poll::Ready(Some(Err((this.wrong)(problem).into())));
                }
                None => {
                    this.check()?;
                    this.sending.waits_for_answer();
                    return Poll::Ready(None);
                }
            };
            // Trailers belong to the answer that the bytes came in.
            let Ok(bytes) = frame.into_data() else { continue };
            this.take(&bytes)?;
            if this.left == 0 {
                this.sending.waits_for_answer();
            } else {
                this.sending.waits_for_connection();
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
