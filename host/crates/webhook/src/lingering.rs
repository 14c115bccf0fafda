use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection that stays open for a moment for what the client still sends when we have said our last word
/// ([RFC 9112, 9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)).
///
/// An API server that sends a review while the connection ends learns from what it reads, a GOAWAY of HTTP/2, that it was
/// not answered, and asks again over another connection. If the system resets the connection instead, because nobody is
/// there to take the request, it takes the webhook for gone, and the pod as it is.
pub(crate) struct Lingering<S> {
    stream: S,
    closing: Option<Pin<Box<Sleep>>>,
}

/// Makes connections linger.
#[derive(Debug, Clone)]
pub(crate) struct LingeringAcceptor<A>(pub(crate) A);

/// For that long. Clients that were told of the end close their side at once.
const LONGEST: Duration = Duration::from_secs(1);

impl<A, I, S> Accept<I, S> for LingeringAcceptor<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
{
    type Stream = Lingering<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let accepting = self.0.accept(stream, service);
        Box::pin(async {
            let (stream, service) = accepting.await?;
            Ok((Lingering { stream, closing: None }, service))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, closing } = &mut *self;
        if closing.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let closing = closing.get_or_insert_with(|| Box::pin(sleep(LONGEST)));
        // First, for a client that goes on sending.
        if closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut unheard = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut unheard);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // The client's end, or none that it could still say.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    fn lingering() -> (tokio::io::DuplexStream, Lingering<tokio::io::DuplexStream>) {
        let (client, stream) = duplex(16);
        (client, Lingering { stream, closing: None })
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_the_end_is_taken_until_the_client_closes() {
        let (mut client, mut server) = lingering();
        let sends = async {
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            // More than there is room for, had nobody taken it.
            client.write_all(&[0; 100]).await.unwrap();
            drop(client);
            said
        };
        let ends = async {
            server.write_all(b"bye").await.unwrap();
            server.shutdown().await.unwrap();
        };
        let began = tokio::time::Instant::now();
        let (said, ()) = tokio::join!(sends, ends);
        assert_eq!((said.as_slice(), began.elapsed()), (&b"bye"[..], Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_is_not_waited_for_long() {
        let (_client, mut server) = lingering();
        let began = tokio::time::Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(began.elapsed(), LONGEST);
    }
}
