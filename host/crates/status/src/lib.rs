//! How the cache stands: which images it has and lacks, what pulls got from it, what upstreams say, what goes next.
//!
//! ```text
//!  CachedImages, StatefulSet, CronJob ──list──┐
//!  proxies' /metrics ──through the API server─┴──▶ Seen ── Standing::of ──▶ text, JSON
//! ```
//!
//! For a person with a kubeconfig: everything is asked of the API server, nothing of the release is run or changed.

use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use kube::Client;

mod bytes;
mod gather;
mod samples;
mod standing;
mod text;

use gather::gather;
use standing::Standing;

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs. Fields may be added.
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server does not know of `CachedImage`s.
    #[error(
        "the API server knows no CachedImages: is cache-registry installed in this cluster, and is it the cluster that \
         `kubectl config current-context` names?"
    )]
    NotInstalled,
    /// The API server refused, or did not answer.
    #[error("listing {what}: {error}")]
    Unseen {
        /// What was asked for, in the plural.
        what: &'static str,
        /// What came of it.
        error: Box<kube::Error>,
    },
    /// The API server takes too long.
    #[error("listing {what}: the API server did not answer within {patience:?}")]
    Silent {
        /// What was asked for, in the plural.
        what: &'static str,
        /// How long it was waited for.
        patience: Duration,
    },
    /// Nobody reads the answer.
    #[error("writing the answer: {0}")]
    Unwritten(#[from] io::Error),
}

/// Writes how the release in this namespace stands.
pub async fn status(client: &Client, namespace: &str, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let standing = Standing::of(&gather(client, namespace).await?);
    match output {
        Output::Text => text::write(&standing, Timestamp::now(), out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &standing).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}
