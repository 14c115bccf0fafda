use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;

use crate::traffic::Entry;

/// How a body leaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivery {
    pub(crate) bytes_per_second: Option<u64>,
    /// After how many bytes it stops, and how.
    pub(crate) stop: Option<(u64, Stop)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Nothing more comes.
    Stall,
    /// The connection is closed.
    Cut,
}

/// Small enough for the count of sent bytes to be near the truth, large enough not to be slow.
const PIECE: usize = 64 * 1024;
/// A slow body moves this often in a second.
const TICKS_PER_SECOND: u32 = 20;
/// Time for the connection to write out what it was given, before it is cut.
const FLUSH: Duration = Duration::from_millis(100);

/// A body of these bytes that counts what it hands over.
pub(crate) fn deliver(bytes: Bytes, delivery: Delivery, entry: Arc<Entry>) -> Body {
    let piece = delivery.bytes_per_second.map_or(PIECE, |rate| in_memory(rate / u64::from(TICKS_PER_SECOND)).max(1));
    let stop = delivery.stop.filter(|(after, _)| in_memory(*after) < bytes.len());
    let until = stop.map_or(bytes.len(), |(after, _)| in_memory(after));

    Body::from_stream(stream::try_unfold((bytes, 0), move |(bytes, from)| {
        let entry = Arc::clone(&entry);
        async move {
            if from == until {
                return match stop {
                    None => Ok(None),
                    Some((_, Stop::Stall)) => std::future::pending().await,
                    Some((_, Stop::Cut)) => {
                        tokio::time::sleep(FLUSH).await;
                        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut, as was asked"))
                    }
                };
            }
            if delivery.bytes_per_second.is_some() {
                tokio::time::sleep(Duration::from_secs(1) / TICKS_PER_SECOND).await;
            }
            let to = until.min(from + piece);
            let chunk = bytes.slice(from..to);
            entry.sent(chunk.len() as u64);
            Ok(Some((chunk, (bytes, to))))
        }
    }))
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
