use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use cache_registry_runtime::Shutdown;
use futures::future::join_all;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long pulls in flight may take to end once shutdown has begun; then they are cut, and containerd continues them
/// at the next proxy. The pod's `terminationGracePeriodSeconds` has to be longer.
pub const GRACE: Duration = Duration::from_secs(30);

/// What a server allows its clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// Connections at once. A node's runtime needs a few dozen; more wait in the backlog.
    pub(crate) connections: usize,
    /// For the headers of a request; a connection that idles for so long is closed.
    pub(crate) headers: Duration,
    /// For a client to read what it was sent.
    pub(crate) unread: Duration,
    /// For pulls in flight when shutdown begins.
    pub(crate) grace: Duration,
}

/// containerd gives up on a pull without progress after 5 minutes, and so does the proxy.
const ALLOWANCE: Allowance =
    Allowance { connections: 1024, headers: Duration::from_mins(1), unread: Duration::from_mins(5), grace: GRACE };

/// How long a connection that has not asked anything yet may take to do so once shutdown has begun.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What a connection may hold of a response. 64 streams stay within 8 MiB.
const LARGEST_WRITE: usize = 128 * 1024;

/// Serves plain HTTP/1.1 on every listener until shutdown begins, then lets pulls in flight end, for [`GRACE`] at
/// most. Idle connections are closed at once, and new ones when their first request is answered.
///
/// A client that greets with TLS gets `HTTP/1.1 400`: containerd takes that as the sign to speak plain HTTP.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, shutdown: Shutdown) {
    serve_allowing(ALLOWANCE, listeners, router, shutdown).await;
}

pub(crate) async fn serve_allowing(
    allowance: Allowance,
    listeners: Vec<TcpListener>,
    router: Router,
    shutdown: Shutdown,
) {
    let server = Server {
        allowance,
        router,
        room: Arc::new(Semaphore::new(allowance.connections)),
        connections: TaskTracker::new(),
        draining: CancellationToken::new(),
        over: CancellationToken::new(),
    };
    tokio::select! {
        _ = join_all(listeners.iter().map(|listener| server.accept(listener))) => {}
        () = shutdown.wait() => {}
    }
    for listener in listeners {
        server.take_waiting(listener);
    }
    let Server { connections, draining, over, .. } = server;
    tracing::info!(connections = connections.len(), "draining");
    draining.cancel();
    connections.close();
    if tokio::time::timeout(allowance.grace, connections.wait()).await.is_err() {
        tracing::warn!(grace = ?allowance.grace, "pulls were still in flight after the grace and are cut");
        over.cancel();
    }
}

struct Server {
    allowance: Allowance,
    router: Router,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    /// Shutdown has begun.
    draining: CancellationToken,
    /// The grace is over.
    over: CancellationToken,
}

impl Server {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.spawn(stream, permit),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors, most likely: at once it would be no better.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Closes a listener, after accepting what waits: the kernel resets those connections otherwise, also where another
    /// process listens on the same port.
    fn take_waiting(&self, listener: TcpListener) {
        // Not by way of tokio, which asks the kernel only when that has told of a connection.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, _)) = listener.accept() {
            let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else { return };
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                self.spawn(stream, permit);
            }
        }
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let connection = converse(self.allowance, stream, self.router.clone(), self.draining.clone());
        let over = self.over.clone();
        self.connections.spawn(async move {
            over.run_until_cancelled(connection).await;
            drop(permit);
        });
    }
}

async fn converse(allowance: Allowance, stream: TcpStream, router: Router, draining: CancellationToken) {
    if let Err(error) = prepare(&stream, allowance.unread) {
        tracing::debug!(%error, "socket options");
    }
    let asked = CancellationToken::new();
    let service = service_fn(|request: Request<Incoming>| {
        asked.cancel();
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(allowance.headers)
        .max_buf_size(LARGEST_WRITE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let leave = async {
        draining.cancelled().await;
        // Nobody tries again whose new connection is closed without an answer, and its request is on its way.
        let _ = tokio::time::timeout(FIRST_REQUEST, asked.cancelled()).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = leave => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn prepare(stream: &TcpStream, unread: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(unread))
}
