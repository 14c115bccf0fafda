use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use cache_registry_core::{Digest, Hasher};
use cache_registry_registry::{self as registry, GetOptions, Object};
use futures::stream;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::ask::Question;
use crate::fault::{Course, Fault};
use crate::legs::{Failure, Leg, Step};
use crate::pull_manifest::insert_digest;
use crate::range::{Extent, Range};
use crate::record::Record;
use crate::refusal::{Kind, Refusal};
use crate::route::Name;
use crate::transfer::Transfer;
use crate::{Proxy, SERVED_BY};

/// Blobs up to this size are checked before their first byte is sent, so that wrong bytes of the cache are replaced
/// within the same response. Larger ones are checked as they pass.
const CHECKED_FIRST: u64 = 256 << 10;

/// A body that a leg has begun to send.
pub(crate) struct Opened {
    pub(crate) step: Step,
    /// 200, or 206 where a range was asked for and the leg knows ranges.
    pub(crate) status: StatusCode,
    pub(crate) extent: Extent,
    pub(crate) body: registry::Body,
}

/// What a leg answered to a question for a blob.
enum Answered {
    Body(Opened),
    /// 416, with the `Content-Range` that tells the length.
    Unsatisfiable(Leg, Option<HeaderValue>),
}

impl Proxy {
    /// Answers HEAD of `/v2/<name>/blobs/<digest>`.
    pub(crate) async fn head_blob(&self, name: &Name, digest: &Digest, record: &mut Record) -> Response {
        let mut course = self.course_for(name, digest).await;
        let question =
            Question { method: Method::HEAD, object: Object::Blob(digest.clone()), options: GetOptions::default() };
        loop {
            let step = course.next();
            if step == Step::Refuse {
                return refused(&course, name, record);
            }
            match self.ask(step, name, &question).await {
                Ok(told) => {
                    record.answers(StatusCode::OK, step.leg().as_str());
                    let extent = Extent::whole(content_length(told.headers()));
                    // Empty, but not of the length 0: a length that the leg did not tell is not told here either.
                    let body = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
                    return respond(StatusCode::OK, digest, extent, step.leg(), body);
                }
                Err(fault) => course.failed(step, fault),
            }
        }
    }

    /// Answers GET of `/v2/<name>/blobs/<digest>`.
    pub(crate) async fn get_blob(
        self: &Arc<Self>,
        name: &Name,
        digest: &Digest,
        range: Option<Range>,
        mut record: Record,
    ) -> Response {
        if range.is_some_and(Range::resumes) {
            if self.suspects.of(name, digest).await.rest_is_useless {
                let refusal = Refusal::rest_is_useless(name);
                record.answers(refusal.status, "nobody");
                record.complete();
                return refusal.into_response();
            }
        } else {
            self.suspects.starts_again(name, digest).await;
        }
        let mut course = self.course_for(name, digest).await;
        loop {
            let opened = match self.open_blob(&mut course, name, digest, range).await {
                Some(Answered::Body(opened)) => opened,
                Some(Answered::Unsatisfiable(leg, told)) => {
                    record.answers(StatusCode::RANGE_NOT_SATISFIABLE, leg.as_str());
                    record.complete();
                    return unsatisfiable(digest, leg, told);
                }
                None => {
                    let response = refused(&course, name, &mut record);
                    record.complete();
                    return response;
                }
            };
            let Some((size, permit)) = self.checks_first(opened.extent) else {
                return self.stream_blob(name, digest, course, opened, record);
            };
            let Opened { step, status, extent, body } = opened;
            let begun = Instant::now();
            match gather(body, digest, size, self.config.manifest_wait).await {
                Ok(bytes) => {
                    record.answers(status, step.leg().as_str());
                    record.sent(step.leg(), size);
                    record.complete();
                    let body = Body::from(Bytes::from_owner(Counted { bytes, _permit: permit }));
                    return respond(status, digest, extent, step.leg(), body);
                }
                Err(fault) => {
                    if fault.failure == Failure::WrongBytes && step.leg() == Leg::Cache {
                        self.suspects.cache_is_wrong(name, digest).await;
                    }
                    self.broke_off(step, name, &fault, begun);
                    course.failed(step, fault);
                }
            }
        }
    }

    /// A course that leaves the cache out where its bytes are known to be wrong.
    async fn course_for(&self, name: &Name, digest: &Digest) -> Course {
        let mut course = Course::default();
        if self.suspects.of(name, digest).await.cache_is_wrong {
            course.failed(Step::AskCache, Fault::wrong_bytes("its bytes were wrong a few minutes ago"));
        }
        course
    }

    /// Asks along the course until a leg begins to answer. `None` when nobody does.
    async fn open_blob(
        &self,
        course: &mut Course,
        name: &Name,
        digest: &Digest,
        range: Option<Range>,
    ) -> Option<Answered> {
        let options = GetOptions { accept: Vec::new(), range: range.map(Range::header) };
        let question = Question { method: Method::GET, object: Object::Blob(digest.clone()), options };
        loop {
            let step = course.next();
            if step == Step::Refuse {
                return None;
            }
            match self.ask(step, name, &question).await.and_then(|response| answered(step, response, range)) {
                Ok(answered) => return Some(answered),
                Err(fault) => course.failed(step, fault),
            }
        }
    }

    /// The size and the room for it, where a blob is to be checked before its first byte is sent.
    fn checks_first(&self, extent: Extent) -> Option<(u64, OwnedSemaphorePermit)> {
        let size = extent.length().filter(|size| extent.is_whole() && *size <= CHECKED_FIRST)?;
        // When there is no room it is checked as it passes, like a larger one.
        let permit = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(size).ok()?).ok()?;
        Some((size, permit))
    }

    fn stream_blob(
        self: &Arc<Self>,
        name: &Name,
        digest: &Digest,
        course: Course,
        opened: Opened,
        mut record: Record,
    ) -> Response {
        let Opened { step, status, extent, .. } = opened;
        record.answers(status, step.leg().as_str());
        let transfer = Transfer::new(Arc::clone(self), name.clone(), digest.clone(), course, opened, record);
        respond(status, digest, extent, step.leg(), transfer.into_body())
    }
}

/// Reads the headers of an answer to a GET.
fn answered(step: Step, response: http::Response<registry::Body>, range: Option<Range>) -> Result<Answered, Fault> {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let extent = match (status, range) {
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
            return Ok(Answered::Unsatisfiable(step.leg(), parts.headers.get(CONTENT_RANGE).cloned()));
        }
        (StatusCode::PARTIAL_CONTENT, Some(range)) => {
            Extent::of_partial(&parts.headers).filter(|extent| range.is_answered_by(*extent))
        }
        (StatusCode::OK, _) => Some(Extent::whole(content_length(&parts.headers))),
        _ => None,
    };
    match extent {
        Some(extent) => Ok(Answered::Body(Opened { step, status, extent, body })),
        None => Err(Fault::useless(status, format!("answered {status} with another range than the one asked for"))),
    }
}

/// What is left of a blob from `next` on, as a leg sends it, and how many of its first bytes are to be left out: all
/// before `next`, where the leg does not know ranges.
pub(crate) fn rest(
    response: http::Response<registry::Body>,
    next: u64,
    extent: Extent,
) -> Result<(registry::Body, u64), Fault> {
    let (parts, body) = response.into_parts();
    let agree = |one: Option<u64>, other: Option<u64>| one.is_none() || other.is_none() || one == other;
    let skip = match parts.status {
        StatusCode::PARTIAL_CONTENT => Extent::of_partial(&parts.headers)
            .filter(|sent| sent.first == next && agree(sent.end, extent.end) && agree(sent.total, extent.total))
            .map(|_| 0),
        StatusCode::OK => agree(content_length(&parts.headers), extent.total).then_some(next),
        _ => None,
    };
    match skip {
        Some(skip) => Ok((body, skip)),
        None => Err(Fault::useless(parts.status, "it has another length or range of it than the leg that began")),
    }
}

/// Reads a small body to its end and checks it. The client has nothing until then, so a leg that drips is given up.
async fn gather(body: registry::Body, digest: &Digest, size: u64, wait: Duration) -> Result<Bytes, Fault> {
    let bytes = match timeout(wait, collect(body, size)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(Fault::sick(format!("{size} bytes did not come within {wait:?}"))),
    };
    Hasher::check(digest, &bytes).map_err(|error| Fault::wrong_bytes(error.to_string()))?;
    Ok(bytes)
}

async fn collect(mut body: registry::Body, size: u64) -> Result<Bytes, Fault> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Bytes that give back their room when the last of them was sent.
struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refused(course: &Course, name: &Name, record: &mut Record) -> Response {
    let refusal = Refusal::of(course, name, Kind::Blob);
    record.answers(refusal.status, "nobody");
    refusal.into_response()
}

fn respond(status: StatusCode, digest: &Digest, extent: Extent, leg: Leg, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    insert_digest(headers, digest);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(SERVED_BY, HeaderValue::from_static(leg.as_str()));
    if let Some(length) = extent.length() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Some(range) = extent.content_range()
    {
        headers.insert(CONTENT_RANGE, range);
    }
    response
}

fn unsatisfiable(digest: &Digest, leg: Leg, told: Option<HeaderValue>) -> Response {
    let nothing = Extent::whole(Some(0));
    let mut response = respond(StatusCode::RANGE_NOT_SATISFIABLE, digest, nothing, leg, Body::empty());
    if let Some(told) = told {
        response.headers_mut().insert(CONTENT_RANGE, told);
    }
    response
}
