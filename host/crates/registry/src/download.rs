use backon::BackoffBuilder as _;
use bytes::Bytes;
use futures::stream::{Stream, try_unfold};
use http::header::CONTENT_RANGE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use crate::manifest::Blob;
use crate::repository::content_length;
use crate::retry::{wait_after, waits};
use crate::{Body, Error, GetOptions, Object, Repository};

/// How often a blob's download is taken up again without a byte more than before.
const TRIES: usize = 4;

/// The bytes of a blob. Where the registry breaks off, the rest is asked for, and the stream goes on as if nothing
/// had happened. The digest is not checked here.
pub(crate) fn download(from: Repository, blob: Blob) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let waits = waits(TRIES).build();
    let download = Download { from, blob, at: 0, body: None, skip: 0, waits: Box::new(waits) };
    try_unfold(download, |mut download| async move { Ok(download.next().await?.map(|bytes| (bytes, download))) })
}

struct Download {
    from: Repository,
    blob: Blob,
    /// How many bytes were handed on.
    at: u64,
    body: Option<Body>,
    /// How many of the body's bytes were handed on before, from an earlier body.
    skip: u64,
    /// Between tries that bring nothing.
    waits: Box<dyn Iterator<Item = std::time::Duration> + Send>,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.at < self.blob.size {
            match self.piece().await {
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    self.waits = Box::new(waits(TRIES).build());
                    return Ok(Some(bytes));
                }
                Ok(None) => {}
                Err(error) => {
                    self.body = None;
                    let wait = if error.is_transient() { wait_after(&error, self.waits.next()) } else { None };
                    let Some(wait) = wait else { return Err(error) };
                    tracing::debug!(%error, at = self.at, "a download is taken up again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
        Ok(None)
    }

    /// The next bytes; `None` where the body brought some that are not new.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let body = match &mut self.body {
            Some(body) => body,
            none => {
                let (body, skip) = open(&self.from, &self.blob, self.at).await?;
                self.skip = skip;
                none.insert(body)
            }
        };
        let Some(frame) = body.frame().await else {
            return Err(body
                .asked()
                .garbled(format_args!("the blob ended at {} of {} bytes", self.at, self.blob.size)));
        };
        let Ok(mut bytes) = frame?.into_data() else { return Ok(None) };
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        bytes::Buf::advance(&mut bytes, known);
        self.skip -= known as u64;
        if bytes.len() as u64 > self.blob.size - self.at {
            return Err(body.asked().garbled(format_args!("the blob is longer than {} bytes", self.blob.size)));
        }
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

/// Asks for a blob from a byte on. Returns what is to be skipped of the answer: a registry may ignore the range.
async fn open(from: &Repository, blob: &Blob, at: u64) -> Result<(Body, u64), Error> {
    let range = (at > 0).then(|| HeaderValue::from_str(&format!("bytes={at}-")).ok()).flatten();
    let options = GetOptions { accept: Vec::new(), range };
    let (parts, body) = from.get(&Object::Blob(blob.digest.clone()), &options).await?.into_parts();
    match begins_at(parts.status, &parts.headers, blob.size) {
        Ok(start) if start == at => Ok((body, 0)),
        Ok(0) => Ok((body, at)),
        Ok(start) => {
            Err(body.asked().unusable(format_args!("asked from byte {at} on, it answers from byte {start} on")))
        }
        // Told by its headers, so that the next answer will be the same.
        Err(problem) => Err(body.asked().unusable(problem)),
    }
}

/// Where in the blob an answer begins ([RFC 9110 §14.4](https://www.rfc-editor.org/rfc/rfc9110#section-14.4)).
fn begins_at(status: StatusCode, headers: &HeaderMap, size: u64) -> Result<u64, String> {
    match status {
        StatusCode::OK => match content_length(headers) {
            Some(length) if length != size => {
                Err(format!("the blob has {length} bytes here, and {size} by its manifest"))
            }
            _ => Ok(0),
        },
        StatusCode::PARTIAL_CONTENT => {
            let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
            start.ok_or_else(|| "a part of the blob without a usable Content-Range".to_owned())
        }
        status => Err(format!("asked for a blob, it answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_LENGTH;
    use rstest::rstest;

    #[rstest]
    #[case(200, None, None, Ok(0))]
    #[case(200, Some("10"), None, Ok(0))]
    #[case(200, Some("9"), None, Err("9 bytes here"))]
    #[case(206, Some("6"), Some("bytes 4-9/10"), Ok(4))]
    #[case(206, Some("6"), Some("bytes */10"), Err("Content-Range"))]
    #[case(206, Some("6"), None, Err("Content-Range"))]
    #[case(204, None, None, Err("204"))]
    #[case(416, None, None, Err("416"))]
    fn an_answer_says_where_it_begins(
        #[case] status: u16,
        #[case] length: Option<&str>,
        #[case] range: Option<&str>,
        #[case] expected: Result<u64, &str>,
    ) {
        let headers = [(CONTENT_LENGTH, length), (CONTENT_RANGE, range)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?.parse().unwrap()))).collect();
        match (begins_at(StatusCode::from_u16(status).unwrap(), &headers, 10), expected) {
            (Ok(start), Ok(expected)) => assert_eq!(start, expected),
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }
}
