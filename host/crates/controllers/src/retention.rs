use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What is known about the use of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Not everything was seen that could use it. That is not the same as being unused.
    Unknown,
    /// A pod uses it, or a workload would start one that does.
    Used,
    /// Everything was seen, and nothing uses it.
    Unused,
}

/// When an image has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// That is not known, and what was said about it before stays.
    Unknown,
    /// Never, as things are.
    Never,
    /// Unless something uses it before.
    At {
        /// Since when nothing uses it.
        unused_since: Timestamp,
        /// When it goes.
        expires_at: Timestamp,
    },
}

/// Decides when an image has to go: `delay` after it was found to be unused, and never while it is in use or is to be
/// retained. `unused_since` is what was decided before.
///
/// The delay counts from the beginning, so a changed one holds for images that are waiting for their end already. A
/// clock that is set back makes an image stay longer, never shorter than its delay.
pub(crate) fn expiry(
    used: Use,
    retain: bool,
    delay: Duration,
    unused_since: Option<Timestamp>,
    now: Timestamp,
) -> Expiry {
    match used {
        _ if retain => Expiry::Never,
        Use::Used => Expiry::Never,
        Use::Unknown => Expiry::Unknown,
        Use::Unused => {
            let unused_since = unused_since.map_or(now, |since| since.min(now));
            let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
            let expires_at = unused_since.checked_add(delay).unwrap_or(Timestamp::MAX);
            Expiry::At { unused_since, expires_at }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const DAY: Duration = Duration::from_hours(24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[rstest]
    #[case::unused(Use::Unused, false, None, Expiry::At { unused_since: at(1000), expires_at: at(1000 + 86_400) })]
    #[case::unused_for_long(Use::Unused, false, Some(10), Expiry::At { unused_since: at(10), expires_at: at(10 + 86_400) })]
    #[case::used_again(Use::Used, false, Some(10), Expiry::Never)]
    #[case::retained(Use::Unused, true, Some(10), Expiry::Never)]
    #[case::retained_unseen(Use::Unknown, true, Some(10), Expiry::Never)]
    #[case::unseen(Use::Unknown, false, Some(10), Expiry::Unknown)]
    #[case::clock_set_back(Use::Unused, false, Some(5000), Expiry::At { unused_since: at(1000), expires_at: at(1000 + 86_400) })]
    fn follows_from_use(#[case] used: Use, #[case] retain: bool, #[case] since: Option<i64>, #[case] expected: Expiry) {
        assert_eq!(expiry(used, retain, DAY, since.map(at), at(1000)), expected);
    }

    #[test]
    fn a_delay_of_nothing_is_over_at_once() {
        let expected = Expiry::At { unused_since: at(1000), expires_at: at(1000) };
        assert_eq!(expiry(Use::Unused, false, Duration::ZERO, None, at(1000)), expected);
    }

    /// What can happen to an image between two decisions.
    #[derive(Debug, Clone)]
    enum Happening {
        Used(Use),
        Retain(bool),
        Delay(Duration),
        Clock(i64),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            prop_oneof![Just(Use::Unknown), Just(Use::Used), Just(Use::Unused)].prop_map(Happening::Used),
            any::<bool>().prop_map(Happening::Retain),
            any::<u64>().prop_map(|seconds| Happening::Delay(Duration::from_secs(seconds))),
            (0_u64..100_000).prop_map(|seconds| Happening::Delay(Duration::from_secs(seconds))),
            (-100_000_i64..100_000).prop_map(Happening::Clock),
        ]
    }

    proptest! {
        /// Whatever happens, and whatever the clock does: what is due is seen to be unused, was so at some decision
        /// whose time is the delay ago, and is not to be retained.
        #[test]
        fn only_what_is_unused_for_its_delay_is_due(history in prop::collection::vec(happening(), 1..60)) {
            let (mut used, mut retain, mut delay, mut now) = (Use::Unknown, false, DAY, 1_000_000_i64);
            let (mut told, mut unused_at): (Option<Timestamp>, Vec<Timestamp>) = (None, Vec::new());
            for happens in history {
                match happens {
                    Happening::Used(next) => used = next,
                    Happening::Retain(next) => retain = next,
                    Happening::Delay(next) => delay = next,
                    Happening::Clock(by) => now += by,
                }
                match expiry(used, retain, delay, told, at(now)) {
                    Expiry::Unknown => prop_assert!(used == Use::Unknown && !retain),
                    Expiry::Never => {
                        prop_assert!(used == Use::Used || retain);
                        (told, unused_at) = (None, Vec::new());
                    }
                    Expiry::At { unused_since, expires_at } => {
                        unused_at.push(at(now));
                        prop_assert!(used == Use::Unused && !retain);
                        prop_assert!(unused_at.contains(&unused_since) && unused_since <= at(now));
                        let waited = at(now).duration_since(unused_since).unsigned_abs();
                        prop_assert_eq!(expires_at <= at(now), waited >= delay);
                        told = Some(unused_since);
                    }
                }
            }
        }
    }
}
