use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::Error;
use crate::asked::Asked;

/// The body of a registry's answer, passed on as it arrives, without a copy.
///
/// It ends with an error when the registry breaks off, or sends nothing for the idle time of its
/// [`Waits`](crate::Waits) while somebody waits for it. The digest is not checked here: who asked for it does.
pub struct Body {
    frames: Incoming,
    idle: Duration,
    /// Runs while a frame is awaited; made on the first wait, because many bodies need none.
    silence: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    asked: Arc<Asked>,
}

impl Body {
    pub(crate) fn new(frames: Incoming, idle: Duration, asked: Arc<Asked>) -> Self {
        Self { frames, idle, silence: None, is_waiting: false, asked }
    }

    /// The request that it answers.
    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The whole of a small body. An error when it is larger, or not complete within the idle time.
    pub(crate) async fn whole(self, at_most: usize) -> Result<Bytes, Error> {
        let (asked, within) = (Arc::clone(&self.asked), self.idle);
        let collecting = tokio::time::timeout(within, Limited::new(self, at_most).collect());
        match collecting.await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(asked.unusable(format_args!("the answer is larger than {at_most} bytes, which none has to be")))
            }
            Ok(Err(error)) => Err(error.downcast::<Error>().map_or_else(|error| asked.garbled(error), |error| *error)),
            Err(_) => Err(asked.late("no complete answer", within)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut body.frames).poll_frame(cx) {
            body.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| body.asked.cut(&error))));
        }
        let silence = body.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(body.idle)));
        if !body.is_waiting {
            silence.as_mut().reset(Instant::now() + body.idle);
            body.is_waiting = true;
        }
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Err(body.asked.late("nothing more came", body.idle))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("asked", &self.asked.to_string()).finish_non_exhaustive()
    }
}
