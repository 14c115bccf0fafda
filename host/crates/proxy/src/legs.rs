/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Leg {
    /// The registry inside the cluster.
    Cache,
    /// The registry that the image names.
    Upstream,
}

/// What to do next for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Ask the cache, with its short time.
    AskCache,
    /// Ask the upstream.
    AskUpstream,
    /// Ask the cache once more, sick or not, and give it longer: nobody else has it.
    AskCacheAgain,
    /// Nobody has it: tell the client what the upstream said.
    Refuse,
}

/// Why a leg that was asked does not serve. For the client the two legs are one, so what matters is whether it pays to
/// ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// It says that it has not (404).
    Missing,
    /// It wants credentials, or other ones (401, 403).
    Denied,
    /// It asks to come back later (429).
    RateLimited,
    /// It answered with another error, or not within its time, or fell silent or was cut within the body.
    Sick,
    /// Its bytes were not the ones that the digest names.
    WrongBytes,
    /// It was not asked: it is known to be sick, or to be out of bounds.
    Skipped,
}

/// How each step of one request failed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Failures {
    cache: Option<Failure>,
    upstream: Option<Failure>,
    cache_again: Option<Failure>,
}

/// The order of legs: the cache, then the upstream, then whatever the cache has.
///
/// The cache is asked a second time only where that can help: not when it said that it has nothing, and not when its
/// bytes were wrong. It is asked again on *any* failure of the upstream, a 404 included: a tag that was deleted
/// upstream while the cache did not answer is what a cache is for.
///
/// The same order holds before the first byte and within a body: a leg that served and then was cut is
/// [`Failure::Sick`], and the next step says who continues.
pub(crate) fn next(failed: Failures) -> Step {
    use Failure::{Denied, Missing, RateLimited, Sick, Skipped, WrongBytes};
    match failed {
        Failures { cache: None, .. } => Step::AskCache,
        Failures { upstream: None, .. } => Step::AskUpstream,
        Failures { cache_again: Some(_), .. } | Failures { cache: Some(Missing | WrongBytes), .. } => Step::Refuse,
        Failures { cache: Some(Denied | RateLimited | Sick | Skipped), .. } => Step::AskCacheAgain,
    }
}

impl Failures {
    /// These, and that `step` failed.
    pub(crate) fn with(mut self, step: Step, failure: Failure) -> Self {
        match step {
            Step::AskCache => self.cache = Some(failure),
            Step::AskUpstream => self.upstream = Some(failure),
            Step::AskCacheAgain => self.cache_again = Some(failure),
            Step::Refuse => {}
        }
        self
    }
}

impl Leg {
    /// The word for it, in headers, logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Upstream => "upstream",
        }
    }
}

impl Failure {
    /// Every one.
    pub(crate) const ALL: [Self; 6] =
        [Self::Missing, Self::Denied, Self::RateLimited, Self::Sick, Self::WrongBytes, Self::Skipped];

    /// The word for it in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::RateLimited => "rate_limited",
            Self::Sick => "sick",
            Self::WrongBytes => "wrong_bytes",
            Self::Skipped => "skipped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Missing, Sick, Skipped, WrongBytes};
    use Step::{AskCache, AskCacheAgain, AskUpstream, Refuse};

    /// Who is asked, in order, when every step fails as given.
    fn course(cache: Failure, upstream: Failure, cache_again: Failure) -> Vec<Step> {
        let mut failed = Failures::default();
        let mut steps = Vec::new();
        loop {
            let step = next(failed);
            steps.push(step);
            assert!(steps.len() <= 4, "never ends: {steps:?}");
            failed = match step {
                AskCache => failed.with(step, cache),
                AskUpstream => failed.with(step, upstream),
                AskCacheAgain => failed.with(step, cache_again),
                Refuse => return steps,
            };
        }
    }

    #[test]
    fn every_course_of_a_request_is_the_designs() {
        for cache in Failure::ALL {
            for upstream in Failure::ALL {
                for cache_again in Failure::ALL {
                    let steps = course(cache, upstream, cache_again);
                    let expected: &[Step] = match cache {
                        Missing | WrongBytes => &[AskCache, AskUpstream, Refuse],
                        _ => &[AskCache, AskUpstream, AskCacheAgain, Refuse],
                    };
                    assert_eq!(steps, expected, "{cache:?} {upstream:?} {cache_again:?}");
                }
            }
        }
    }

    #[test]
    fn an_upstream_that_served_and_was_cut_hands_over_to_a_cache_that_was_skipped() {
        let failed = Failures::default().with(AskCache, Skipped);
        assert_eq!(next(failed), AskUpstream);
        assert_eq!(next(failed.with(AskUpstream, Sick)), AskCacheAgain);
    }
}
