use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cache_registry_core::{Digest, Hasher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::on_a_thread;

/// One blob at one server.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) digest: Digest,
    pub(crate) size: usize,
}

/// Reads are this large; what is read is thrown away, so the cost of a client stays small beside that of a server.
const BUFFER: usize = 256 << 10;
const LONGEST: Duration = Duration::from_mins(2);

impl Blob {
    /// Pulls it `times` at once, each on a connection of its own, and says how long all of them took.
    pub(crate) async fn pull(&self, times: usize) -> Result<Duration> {
        let blob = self.clone();
        on_a_thread(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let begun = Instant::now();
                let mut pulls = JoinSet::new();
                for _ in 0..times {
                    let blob = blob.clone();
                    pulls.spawn(async move { blob.transfer(|_| {}).await });
                }
                let pulled = async {
                    while let Some(pulled) = pulls.join_next().await {
                        pulled??;
                    }
                    Ok(begun.elapsed())
                };
                let bound = tokio::time::timeout(LONGEST, pulled).await;
                bound.with_context(|| format!("{times} pulls take more than {} s", LONGEST.as_secs()))?
            })
        })
        .await
    }

    /// Pulls it once and checks its bytes.
    pub(crate) async fn check(&self) -> Result<()> {
        let mut hasher = Hasher::expecting(&self.digest)?;
        tokio::time::timeout(LONGEST, self.transfer(|bytes| hasher.update(bytes))).await??;
        hasher.finish().with_context(|| format!("wrong bytes from {}", self.address))
    }

    /// One GET over HTTP/1.1 by hand: a body of a known length needs no more, and a client library costs more than
    /// the servers do.
    async fn transfer(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.path, self.address);
        stream.write_all(request.as_bytes()).await?;

        let mut buffer = vec![0; BUFFER];
        let mut filled = 0;
        let body = loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                bail!("{} closed the connection before it answered", self.address);
            }
            filled += read;
            if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 200 ") {
            bail!("{} answered {}", self.address, String::from_utf8_lossy(&buffer[..filled.min(200)]));
        }
        take(&buffer[body..filled]);
        let mut received = filled - body;
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => {
                    take(&buffer[..read]);
                    received += read;
                }
            }
        }
        if received != self.size {
            bail!("{} sent {received} of {} bytes", self.address, self.size);
        }
        Ok(())
    }
}
