use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use cache_registry_core::{Digest, Hasher};
use cache_registry_registry::{self as registry, GetOptions, Object};
use futures::stream;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::Proxy;
use crate::ask::Question;
use crate::fault::{Course, Fault};
use crate::legs::{Leg, Step};
use crate::pull_blob::{Opened, rest};
use crate::range::{Extent, Range};
use crate::record::Record;
use crate::route::Name;

/// A blob on its way to a client.
///
/// - A whole blob is hashed as it passes, and its last bytes are kept back until the digest is right; when it is wrong
///   the connection is cut instead, so that nobody ever takes wrong bytes for complete. Part of a blob cannot be
///   checked: the client, which has the other part, checks the whole.
/// - When its leg is cut or falls silent, the next leg of the course goes on at the same byte, and the client does not
///   notice.
pub(crate) struct Transfer {
    proxy: Arc<Proxy>,
    name: Name,
    digest: Digest,
    course: Course,
    step: Step,
    source: registry::Body,
    extent: Extent,
    /// The offset of the next byte that the source has to give.
    next: u64,
    /// How many bytes of the source come before that.
    skip: u64,
    check: Option<Hasher>,
    /// Kept back where the end is not known, because any bytes may be the last.
    held: Option<Bytes>,
    has_cache_bytes: bool,
    is_over: bool,
    record: Record,
}

/// The body ends here, before its end. hyper closes the connection without completing the response.
#[derive(Debug, thiserror::Error)]
#[error("cut: {0}")]
pub(crate) struct Cut(String);

impl Transfer {
    pub(crate) fn new(
        proxy: Arc<Proxy>,
        name: Name,
        digest: Digest,
        course: Course,
        opened: Opened,
        record: Record,
    ) -> Self {
        let Opened { step, extent, body, .. } = opened;
        let check = extent.is_whole().then(|| Hasher::expecting(&digest).ok()).flatten();
        Self {
            proxy,
            name,
            digest,
            course,
            step,
            source: body,
            extent,
            next: extent.first,
            skip: 0,
            check,
            held: None,
            has_cache_bytes: false,
            is_over: false,
            record,
        }
    }

    /// As the body of a response.
    pub(crate) fn into_body(self) -> Body {
        // Boxed: it moves with every piece.
        Body::from_stream(stream::unfold(Box::new(self), |mut transfer| async move {
            let span = transfer.record.span();
            let piece = transfer.piece().instrument(span).await?;
            Some((piece, transfer))
        }))
    }

    /// The next bytes for the client; `None` after the last.
    async fn piece(&mut self) -> Option<Result<Bytes, Cut>> {
        if self.is_over {
            return None;
        }
        let piece = self.next_piece().await;
        match &piece {
            Ok(Some(bytes)) => self.record.sent(self.step.leg(), bytes.len() as u64),
            Ok(None) => self.is_over = true,
            Err(cut) => {
                self.is_over = true;
                self.record.cut();
                tracing::warn!(name = %self.name, digest = %self.digest, at = self.next, reason = %cut, "blob cut");
            }
        }
        if self.is_over && piece.is_ok() {
            self.record.complete();
        }
        piece.transpose()
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            let asked = Instant::now();
            let fault = match self.source.frame().await {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    if let Some(bytes) = self.take(bytes).await? {
                        return Ok(Some(bytes));
                    }
                    continue;
                }
                None if self.extent.end.is_none() => {
                    self.finish().await?;
                    self.is_over = true;
                    return Ok(self.held.take());
                }
                None if self.extent.end == Some(self.next) => {
                    self.finish().await?;
                    return Ok(None);
                }
                None => Fault::sick("the body ended before its end"),
                Some(Err(error)) => Fault::from(error),
            };
            self.proxy.broke_off(self.step, &self.name, &fault, asked);
            self.hand_over(fault).await?;
        }
    }

    /// Takes bytes of the source in, and gives what may go to the client.
    async fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, Cut> {
        if self.skip > 0 {
            let skipped = bytes.split_to(bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX)));
            self.skip -= skipped.len() as u64;
        }
        if let Some(end) = self.extent.end {
            // A leg without ranges sends what comes after the range as well.
            bytes.truncate(usize::try_from(end - self.next).unwrap_or(usize::MAX));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.next += bytes.len() as u64;
        self.has_cache_bytes |= self.step.leg() == Leg::Cache;
        if let Some(check) = &mut self.check {
            check.update(&bytes);
        }
        match self.extent.end {
            None => Ok(self.held.replace(bytes)),
            Some(end) if end == self.next => {
                self.finish().await?;
                self.is_over = true;
                Ok(Some(bytes))
            }
            Some(_) => Ok(Some(bytes)),
        }
    }

    /// Checks the digest of the whole, before the last bytes go out.
    async fn finish(&mut self) -> Result<(), Cut> {
        let Some(Err(error)) = self.check.take().map(Hasher::finish) else { return Ok(()) };
        self.proxy.suspects.wrong_bytes_left(&self.name, &self.digest, self.has_cache_bytes).await;
        let fault = Fault::wrong_bytes(error.to_string());
        self.proxy.failed(self.step, &self.name, &fault);
        Err(Cut(fault.message))
    }

    /// Lets the next leg go on where this one stopped.
    async fn hand_over(&mut self, mut fault: Fault) -> Result<(), Cut> {
        let from = self.step.leg();
        let range = match self.extent.end {
            Some(end) => Range::Between(self.next, end - 1),
            None => Range::From(self.next),
        };
        let options = GetOptions { accept: Vec::new(), range: Some(range.header()) };
        let question = Question { method: Method::GET, object: Object::Blob(self.digest.clone()), options };
        loop {
            let message = fault.message.clone();
            self.course.failed(self.step, fault);
            let step = self.course.next();
            if step == Step::Refuse {
                return Err(Cut(message));
            }
            self.step = step;
            let answer = self.proxy.ask(step, &self.name, &question).await;
            match answer.and_then(|response| rest(response, self.next, self.extent)) {
                Ok((source, skip)) => {
                    self.source = source;
                    self.skip = skip;
                    self.proxy.metrics.continued(from);
                    self.record.continued_by(step.leg());
                    return Ok(());
                }
                Err(next) => fault = next,
            }
        }
    }
}
