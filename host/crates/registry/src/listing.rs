use http::header::LINK;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::{Connections, Error, Repository};

/// Names in one answer: distribution gives no more unless it is told to.
const PAGE: usize = 1_000;

/// Of an answer with as many names, each as long as a registry takes them.
const LARGEST_PAGE: usize = 1024 * 1024;

/// Pages of one listing. A registry that has more, or does not come to an end, is not believed.
const MOST_PAGES: usize = 1_000;

impl Connections {
    /// The repositories of the registry inside the cluster, by distribution's catalog
    /// (<https://distribution.github.io/distribution/spec/api/#catalog>). Those may be among them of which nothing is
    /// left.
    pub async fn repositories(&self, endpoint: &Url) -> Result<Vec<String>, Error> {
        // Where a repository would be: no name of one begins with an underscore.
        self.cache(endpoint, "_catalog").listed(&[], |page: Catalog| page.repositories).await
    }
}

impl Repository {
    /// Its tags (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags>); none where there
    /// is no such repository.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        match self.listed(&["tags", "list"], |page: Tags| page.tags.unwrap_or_default()).await {
            Err(error) if error.is_absence() => Ok(Vec::new()),
            tags => tags,
        }
    }

    /// All pages, of the registry itself. The next one begins after the last name of the one before.
    async fn listed<P: DeserializeOwned>(
        &self,
        tail: &[&str],
        names: impl Fn(P) -> Vec<String>,
    ) -> Result<Vec<String>, Error> {
        let endpoint = self.last_endpoint()?;
        let mut all: Vec<String> = Vec::new();
        for _ in 0..MOST_PAGES {
            let mut url = self.url(endpoint, tail);
            url.query_pairs_mut().append_pair("n", &PAGE.to_string());
            if let Some(last) = all.last() {
                url.query_pairs_mut().append_pair("last", last);
            }
            let answer = self.pull(endpoint, Method::GET, url, HeaderMap::new(), false).await?;
            let (parts, body) = answer.response.into_parts();
            let page = serde_json::from_slice(&body.whole(LARGEST_PAGE).await?);
            let page = names(page.map_err(|error| answer.asked.garbled(format_args!("no list of names: {error}")))?);
            if page.is_empty() || !parts.headers.contains_key(LINK) {
                all.extend(page);
                return Ok(all);
            }
            all.extend(page);
        }
        Err(self.unusable(format_args!("its list has more than {MOST_PAGES} pages")))
    }
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    /// `null` for a repository without tags.
    tags: Option<Vec<String>>,
}
