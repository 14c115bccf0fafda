use std::time::Duration;

use moka::future::Cache;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::legs::Failure;
use crate::route::Name;

/// The repositories whose upstream asked to be left alone (429).
///
/// containerd asks the same host again at once, five times, whatever `Retry-After` says; each of these would count
/// against the limit. Until its time is over the upstream's answer is given from here.
#[derive(Debug)]
pub(crate) struct Limits(Cache<String, (Instant, Fault)>);

/// An upstream may ask for hours; a person who has changed something should not wait longer than this.
const LONGEST: Duration = Duration::from_mins(1);
/// Where the upstream does not say how long.
const UNSAID: Duration = Duration::from_secs(1);

impl Limits {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(1024).time_to_live(LONGEST).build())
    }

    /// The answer of an upstream whose time is not over.
    pub(crate) async fn still(&self, name: &Name, now: Instant) -> Option<Fault> {
        let (until, fault) = self.0.get(&name.to_string()).await?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Fault { retry_after: Some(left), ..fault })
    }

    /// Remembers the answer if it was a 429.
    pub(crate) async fn note(&self, name: &Name, fault: &Fault, now: Instant) {
        if fault.failure == Failure::RateLimited {
            let pause = fault.retry_after.unwrap_or(UNSAID).min(LONGEST);
            self.0.insert(name.to_string(), (now + pause, fault.clone())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn limited(seconds: Option<u64>) -> Fault {
        Fault {
            failure: Failure::RateLimited,
            status: Some(StatusCode::TOO_MANY_REQUESTS),
            retry_after: seconds.map(Duration::from_secs),
            message: "slow down".to_owned(),
            no_token: None,
        }
    }

    #[tokio::test]
    async fn an_upstream_that_asked_for_it_is_left_alone_for_as_long() {
        let limits = Limits::new();
        let name = Name { registry: "docker.io".to_owned(), repository: "library/x".to_owned() };
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(limits.still(&name, now).await.is_none());

        limits.note(&name, &limited(Some(10)), now).await;
        let fault = limits.still(&name, after(4)).await.unwrap();
        assert_eq!((fault.failure, fault.retry_after), (Failure::RateLimited, Some(Duration::from_secs(6))));
        assert!(limits.still(&name, after(10)).await.is_none());

        limits.note(&name, &limited(Some(100_000)), now).await;
        assert!(limits.still(&name, after(59)).await.is_some() && limits.still(&name, after(60)).await.is_none());
        limits.note(&name, &limited(None), now).await;
        assert!(limits.still(&name, now).await.is_some() && limits.still(&name, after(1)).await.is_none());
    }
}
