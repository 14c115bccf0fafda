use std::sync::Arc;

use cache_registry_core::{Digest, parse_digest};
use http::header::{ACCEPT, LINK};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::manifest::OCI_INDEX;
use crate::retry::retried;
use crate::{Error, Repository};

/// Of one page, which is an index.
const LARGEST_PAGE: usize = 4 * 1024 * 1024;

/// Pages of one list. What is on further ones is not looked for.
const MOST_PAGES: usize = 10;

const TRIES: usize = 4;

/// The entry of an index for something that is about a manifest, as the registry told it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Referrer {
    pub(crate) digest: Digest,
    pub(crate) descriptor: Value,
}

impl Repository {
    /// What is about a manifest, by the registry's referrers API
    /// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>); `None` where it has
    /// none, which is remembered for a while.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>, Error> {
        let registry = Arc::clone(&self.last_endpoint()?.registry);
        if self.connections.without_referrers().contains_key(&registry) {
            return Ok(None);
        }
        let mut last = Ok(None);
        for place in self.places()? {
            last = retried(TRIES, || place.referrers_here(subject)).await;
            if matches!(last, Ok(Some(_))) {
                return last;
            }
        }
        match last {
            Err(error) if has_no_such_api(error.status()) => {
                self.connections.without_referrers().insert(registry, ()).await;
                Ok(None)
            }
            // Whoever may not read the list may read the tags.
            Err(error) if matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => Ok(None),
            last => last,
        }
    }

    /// All pages, at the one address of the repository.
    async fn referrers_here(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>, Error> {
        let endpoint = self.last_endpoint()?;
        let mut all = Vec::new();
        let mut url = self.url(endpoint, &["referrers", subject.as_ref()]);
        for _ in 0..MOST_PAGES {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(OCI_INDEX))]);
            let answer = self.pull(endpoint, Method::GET, url.clone(), headers, false).await?;
            let (parts, body) = answer.response.into_parts();
            // A server that answers everything with a page for browsers knows nothing of referrers.
            let Ok(page) = serde_json::from_slice::<Page>(&body.whole(LARGEST_PAGE).await?) else { return Ok(None) };
            all.extend(page.manifests.into_iter().filter_map(Referrer::of));
            match next(&url, &parts.headers) {
                Some(further) => url = further,
                None => break,
            }
        }
        Ok(Some(all))
    }
}

impl Referrer {
    fn of(descriptor: Value) -> Option<Self> {
        let digest = parse_digest(descriptor.get("digest")?.as_str()?).ok()?;
        Some(Self { digest, descriptor })
    }
}

#[derive(Deserialize)]
struct Page {
    manifests: Vec<Value>,
}

fn has_no_such_api(status: Option<StatusCode>) -> bool {
    status.is_some_and(|status| matches!(status.as_u16(), 400 | 404 | 405 | 406 | 410 | 415 | 501))
}

/// The next page (<https://www.rfc-editor.org/rfc/rfc8288>), which is at the same registry.
fn next(url: &Url, headers: &HeaderMap) -> Option<Url> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find(|link| link.contains("rel=\"next\""))?;
    let target = next.split_once('<')?.1.split_once('>')?.0;
    url.join(target).ok().filter(|next| next.origin() == url.origin() && next != url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"</v2/a/referrers/x?page=2>; rel="next""#, Some("https://r.example/v2/a/referrers/x?page=2"))]
    #[case(r#"<?page=2>; rel="next""#, Some("https://r.example/v2/a/referrers/x?page=2"))]
    #[case(r#"</a>; rel="prev", </b>; rel="next""#, Some("https://r.example/b"))]
    #[case(r#"<https://elsewhere.example/>; rel="next""#, None)]
    #[case(r#"</v2/a/referrers/x>; rel="next""#, None)]
    #[case(r#"</b>; rel="prev""#, None)]
    #[case("nonsense", None)]
    fn the_next_page_is_where_the_registry_says(#[case] link: &str, #[case] expected: Option<&str>) {
        let url = Url::parse("https://r.example/v2/a/referrers/x").unwrap();
        let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
        assert_eq!(next(&url, &headers).as_ref().map(Url::as_str), expected);
    }
}
