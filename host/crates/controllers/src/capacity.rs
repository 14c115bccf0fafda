use std::cmp::Reverse;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// For so long an image was unused at least that goes to make room: a pod that is replaced is away for a moment.
pub(crate) const LEAST_UNUSED: Duration = Duration::from_mins(10);

/// An image in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding<N> {
    pub(crate) name: N,
    /// In bytes, layers that it shares with others included.
    pub(crate) size: u64,
    /// `None` for one that must stay: it is in use, it is retained, or its use is not known.
    pub(crate) unused_since: Option<Timestamp>,
}

/// What the registry holds, against what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capacity<N> {
    /// Bytes of images that must stay.
    pub(crate) needed: u64,
    /// Bytes of images that nothing uses.
    pub(crate) unneeded: u64,
    /// Those that go before their time, so that the rest is no more than `max`.
    pub(crate) makes_room: Vec<N>,
}

/// Decides which images go before their time, where all together are larger than `max`: of those that nothing uses, the
/// ones that were used longest ago. What is in use never goes, even if that alone is too much.
pub(crate) fn capacity<N: Ord>(holdings: Vec<Holding<N>>, max: Option<u64>, now: Timestamp) -> Capacity<N> {
    let sum = |unused: bool| {
        let sizes =
            holdings.iter().filter(|holding| holding.unused_since.is_some() == unused).map(|holding| holding.size);
        sizes.fold(0, u64::saturating_add)
    };
    let (needed, unneeded) = (sum(false), sum(true));
    let mut excess = max.map_or(0, |max| needed.saturating_add(unneeded).saturating_sub(max));
    let least = SignedDuration::try_from(LEAST_UNUSED).unwrap_or(SignedDuration::MAX);
    let mut unused: Vec<_> = holdings
        .into_iter()
        .filter_map(|Holding { name, size, unused_since }| Some((unused_since?, Reverse(size), name)))
        .filter(|(since, ..)| now.duration_since(*since) >= least)
        .collect();
    unused.sort_unstable();
    let mut makes_room = Vec::new();
    for (_, Reverse(size), name) in unused {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(size);
        makes_room.push(name);
    }
    Capacity { needed, unneeded, makes_room }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const NOW: i64 = 100_000;

    fn holding(name: u32, size: u64, unused_for: Option<i64>) -> Holding<u32> {
        Holding { name, size, unused_since: unused_for.map(|seconds| at(NOW - seconds)) }
    }

    fn decide(holdings: &[Holding<u32>], max: Option<u64>) -> Capacity<u32> {
        capacity(holdings.to_vec(), max, at(NOW))
    }

    #[test]
    fn what_was_used_longest_ago_goes_until_the_rest_fits() {
        let all = [
            holding(1, 50, None),
            holding(2, 20, Some(3_000)),
            holding(3, 20, Some(9_000)),
            holding(4, 20, Some(6_000)),
            holding(5, 20, Some(60)),
        ];
        let makes_room = |max| decide(&all, max).makes_room;
        assert_eq!(makes_room(None), Vec::<u32>::new());
        assert_eq!(makes_room(Some(130)), Vec::<u32>::new());
        assert_eq!(makes_room(Some(129)), [3]);
        assert_eq!(makes_room(Some(110)), [3]);
        assert_eq!(makes_room(Some(109)), [3, 4]);
        // What is in use stays, and what was a minute ago.
        assert_eq!(makes_room(Some(0)), [3, 4, 2]);
        assert_eq!((decide(&all, None).needed, decide(&all, None).unneeded), (50, 80));
    }

    #[test]
    fn of_those_of_one_moment_the_largest_goes() {
        assert_eq!(decide(&[holding(1, 10, Some(900)), holding(2, 30, Some(900))], Some(15)).makes_room, [2]);
    }

    proptest! {
        #[test]
        fn no_more_goes_than_has_to_and_nothing_that_is_needed(
            sizes in prop::collection::vec((0_u64..100, prop::option::of(0_i64..2_000)), 0..20),
            max in prop::option::of(0_u64..1_000),
        ) {
            let all: Vec<_> = (0..).zip(&sizes).map(|(name, (size, unused))| holding(name, *size, *unused)).collect();
            let Capacity { needed, unneeded, makes_room } = decide(&all, max);
            let of = |name: &u32| &all[*name as usize];
            for name in &makes_room {
                let since = of(name).unused_since.expect("it is not needed");
                prop_assert!(at(NOW).duration_since(since).unsigned_abs() >= LEAST_UNUSED);
            }
            let sizes = |names: &[u32]| names.iter().map(|name| of(name).size).sum::<u64>();
            prop_assert_eq!(needed + unneeded, all.iter().map(|holding| holding.size).sum::<u64>());
            let max = max.unwrap_or(u64::MAX);
            if let Some((_, others)) = makes_room.split_last() {
                prop_assert!(needed + unneeded - sizes(others) > max, "the last one had to go");
            }
            let may_go = all.iter().filter(|holding| {
                holding.unused_since.is_some_and(|since| at(NOW).duration_since(since).unsigned_abs() >= LEAST_UNUSED)
            });
            let fits = needed + unneeded - sizes(&makes_room) <= max;
            prop_assert!(fits || makes_room.len() == may_go.count());
        }
    }
}
