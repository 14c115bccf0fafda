use std::time::Duration;

use cache_registry_core::Reason;

/// The longest pause between two attempts that nobody asked for.
const LONGEST: Duration = Duration::from_mins(10);

/// The same where access was refused: nobody tells that a Secret was put right, and a kubelet would wait no longer.
const LONGEST_REFUSED: Duration = Duration::from_mins(5);

/// A registry that asks for more than this is asked again after a day all the same.
const LONGEST_ASKED_FOR: Duration = Duration::from_hours(24);

/// How long to wait before the next attempt, after `attempts` (at least 1) that failed in a row.
///
/// Pauses double from 5 s to 10 min, or to 5 min where access was refused; where our own registry was not reached, from 1 s
/// to 15 s, because it is near and everything waits for it. A registry that names a time (`Retry-After`) is not asked
/// before. `random` is within 0..1: it spreads out what failed together.
pub(crate) fn pause(reason: Reason, attempts: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let (first, longest) = match reason {
        Reason::RegistryUnreachable => (Duration::from_secs(1), Duration::from_secs(15)),
        Reason::Unauthorized => (Duration::from_secs(5), LONGEST_REFUSED),
        _ => (Duration::from_secs(5), LONGEST),
    };
    let own = doubling(first, longest, attempts, random);
    // Later by up to a tenth: never before the time that was asked for.
    let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED_FOR).mul_f64(1.0 + random / 10.0);
    own.max(asked)
}

/// The same for a write that the API server did not take: from 1 s to 1 min.
pub(crate) fn write_pause(attempts: u32, random: f64) -> Duration {
    doubling(Duration::from_secs(1), Duration::from_mins(1), attempts, random)
}

/// Earlier by up to a fifth by chance, so that the longest pause is what it says.
fn doubling(first: Duration, longest: Duration, attempts: u32, random: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    doubled.min(longest).mul_f64(1.0 - random / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Reason::NotFound, 1, 5)]
    #[case(Reason::NotFound, 2, 10)]
    #[case(Reason::UpstreamUnreachable, 4, 40)]
    #[case(Reason::NotFound, 8, 600)]
    #[case(Reason::NotFound, u32::MAX, 600)]
    #[case(Reason::Unauthorized, 8, 300)]
    #[case(Reason::RegistryUnreachable, 1, 1)]
    #[case(Reason::RegistryUnreachable, 9, 15)]
    fn doubles_up_to_a_bound(#[case] reason: Reason, #[case] attempts: u32, #[case] seconds: u64) {
        assert_eq!(pause(reason, attempts, None, 0.0), Duration::from_secs(seconds));
    }

    #[test]
    fn writes_are_tried_again_within_a_minute() {
        assert_eq!([1, 2, 3, 7, 99].map(|attempts| write_pause(attempts, 0.0).as_secs()), [1, 2, 4, 60, 60]);
    }

    #[test]
    fn what_the_registry_asks_for_is_obeyed_within_a_day() {
        let asked = |seconds| pause(Reason::RateLimited, 1, Some(Duration::from_secs(seconds)), 0.0).as_secs();
        assert_eq!([asked(1), asked(90), asked(3600), asked(u64::MAX)], [5, 90, 3600, 24 * 3600]);
    }

    proptest::proptest! {
        #[test]
        fn chance_stays_within_the_bounds(attempts: u32, asked in 0_u64..100_000, random in 0.0..1.0) {
            let pause = pause(Reason::RateLimited, attempts, Some(Duration::from_secs(asked)), random);
            proptest::prop_assert!(pause >= Duration::from_secs(4).max(Duration::from_secs(asked).min(LONGEST_ASKED_FOR)));
            proptest::prop_assert!(pause <= LONGEST.max(LONGEST_ASKED_FOR.mul_f64(1.1)));
        }
    }
}
