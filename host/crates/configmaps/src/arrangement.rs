use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cache_registry_api::policy_keys::{BUILT_IN, PRIORITY};
use cache_registry_policy::{Component, MOST_POLICIES, Member, OnError, Policy};
use jiff::Timestamp;

use crate::declaration::BUILT_IN_PRIORITY;
use crate::refusal::TOO_MANY;
use crate::{Declaration, Refusal, Source};

/// A version of a `ConfigMap` that was loaded, and may be in force.
pub(crate) struct Loaded {
    /// The `ConfigMap`.
    pub(crate) configmap: String,
    /// The version's.
    pub(crate) number: u64,
    /// The policy's name.
    pub(crate) name: String,
    pub(crate) priority: i32,
    pub(crate) on_error: OnError,
    /// The built-in policy in whose place it is.
    pub(crate) built_in: Option<&'static str>,
    /// `None` where it is not enabled.
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) pulled: Option<Pulled>,
    pub(crate) at: Timestamp,
}

/// What an image's reference led to.
#[derive(Clone)]
pub(crate) struct Pulled {
    pub(crate) reference: String,
    /// Of the manifest.
    pub(crate) digest: String,
    pub(crate) component: Component,
}

impl Loaded {
    pub(crate) fn new(
        configmap: &str,
        number: u64,
        declaration: &Declaration,
        policy: Option<Arc<Policy>>,
        pulled: Option<Pulled>,
    ) -> Self {
        Self {
            configmap: configmap.to_owned(),
            number,
            name: declaration.name.clone(),
            priority: declaration.priority,
            on_error: declaration.on_error,
            built_in: if let Source::BuiltIn(name) = declaration.source { Some(name) } else { None },
            policy,
            pulled,
            at: Timestamp::now(),
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut loaded = f.debug_struct("Loaded");
        loaded.field("configmap", &self.configmap).field("name", &self.name).field("priority", &self.priority);
        loaded.finish_non_exhaustive()
    }
}

/// A `ConfigMap` of which at least one version was loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) configmap: &'a str,
    /// When the `ConfigMap` was made, as the API server has it.
    pub(crate) created: Option<Timestamp>,
    /// The newest version that was loaded.
    pub(crate) newest: &'a Arc<Loaded>,
    /// The version that was in force when that was loaded.
    pub(crate) before: Option<&'a Arc<Loaded>>,
}

/// Who is in the set, in its order, and who is not.
#[derive(Debug)]
pub(crate) struct Arrangement {
    pub(crate) seats: Vec<Seat>,
    /// By the name of the `ConfigMap`. Where an older version of it has a seat, it keeps it.
    pub(crate) refused: BTreeMap<String, Refusal>,
}

/// A policy in the set.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) priority: i32,
    pub(crate) on_error: OnError,
    pub(crate) policy: Arc<Policy>,
    /// `None` for a built-in policy that no `ConfigMap` says anything about.
    pub(crate) loaded: Option<Arc<Loaded>>,
}

impl Seat {
    pub(crate) fn member(&self) -> Member {
        Member { policy: Arc::clone(&self.policy), on_error: self.on_error }
    }

    /// True where a set would not notice the difference.
    pub(crate) fn is_same_member(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy) && self.on_error == other.on_error
    }
}

/// Decides who is in the set. It follows from what is loaded alone, and not from what was in force before, so that all
/// replicas come to the same.
///
/// A built-in policy is given by the `ConfigMap` that was made first. Of the others, those that come first have a
/// place; the built-in ones always have theirs.
pub(crate) fn arrange(candidates: &[Candidate<'_>], built_in: &[Arc<Policy>]) -> Arrangement {
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(|candidate| (candidate.created, candidate.configmap));
    let mut claims: BTreeMap<&str, &Arc<Loaded>> = BTreeMap::new();
    let (mut own, mut refused, mut displaced) = (Vec::new(), BTreeMap::new(), Vec::new());
    for candidate in &candidates {
        let Some(name) = candidate.newest.built_in else {
            own.push(candidate.newest);
            continue;
        };
        match claims.get(name) {
            None => drop(claims.insert(name, candidate.newest)),
            Some(first) => {
                refused.insert(candidate.configmap.to_owned(), claimed(name, &first.configmap));
                displaced.extend(candidate.before);
            }
        }
    }
    for loaded in displaced {
        match loaded.built_in {
            None => own.push(loaded),
            Some(name) => drop(claims.entry(name).or_insert(loaded)),
        }
    }

    let mut seats: Vec<Seat> = claims.values().filter_map(|loaded| seat(loaded)).collect();
    let unclaimed = built_in.iter().filter(|policy| !claims.contains_key(policy.name()));
    seats.extend(unclaimed.map(|policy| Seat {
        name: policy.name().to_owned(),
        priority: BUILT_IN_PRIORITY,
        on_error: OnError::Leave,
        policy: Arc::clone(policy),
        loaded: None,
    }));
    let places = MOST_POLICIES.saturating_sub(seats.len());
    let mut own: Vec<Seat> = own.into_iter().filter_map(seat).collect();
    own.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    let without_place = own.split_off(own.len().min(places));
    refused.extend(without_place.into_iter().map(|seat| (seat.name, too_many(places))));
    seats.extend(own);
    seats.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    Arrangement { seats, refused }
}

fn seat(loaded: &Arc<Loaded>) -> Option<Seat> {
    Some(Seat {
        name: loaded.name.clone(),
        priority: loaded.priority,
        on_error: loaded.on_error,
        policy: Arc::clone(loaded.policy.as_ref()?),
        loaded: Some(Arc::clone(loaded)),
    })
}

fn claimed(name: &str, by: &str) -> Refusal {
    let words = format_args!(
        "the ConfigMap {by}, which was made earlier, has `{BUILT_IN}: {name}` too: say all of it there and delete one \
         of them"
    );
    Refusal::new("clash", words)
}

fn too_many(places: usize) -> Refusal {
    let words = format_args!(
        "there is place for {places} policies beside the built-in ones, and so many come before it: remove one, or \
         give this one a lower {PRIORITY}"
    );
    Refusal::new(TOO_MANY, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{engine, filter};

    fn loaded(configmap: &str, name: &str, priority: i32) -> Arc<Loaded> {
        let built_in = cache_registry_policy::built_in::NAMES.into_iter().find(|built_in| *built_in == name);
        Arc::new(Loaded {
            configmap: configmap.to_owned(),
            number: 1,
            name: name.to_owned(),
            priority,
            on_error: OnError::Leave,
            built_in,
            policy: Some(filter(name)),
            pulled: None,
            at: Timestamp::UNIX_EPOCH,
        })
    }

    fn own(name: &str, priority: i32) -> Arc<Loaded> {
        loaded(name, name, priority)
    }

    fn off(of: &Arc<Loaded>) -> Arc<Loaded> {
        let Loaded { configmap, name, built_in, .. } = &**of;
        let (configmap, name) = (configmap.clone(), name.clone());
        Arc::new(Loaded { configmap, name, policy: None, pulled: None, built_in: *built_in, ..*of.as_ref() })
    }

    /// Made in this order, one second after the other.
    fn arranged(of: &[(&Arc<Loaded>, Option<&Arc<Loaded>>)]) -> (Vec<String>, Vec<(String, &'static str)>) {
        let candidates: Vec<_> = (0..)
            .zip(of)
            .map(|(second, (newest, before))| Candidate {
                configmap: &newest.configmap,
                created: Some(Timestamp::from_second(second).unwrap()),
                newest,
                before: *before,
            })
            .collect();
        let built_in = cache_registry_policy::built_in::load(&engine()).unwrap();
        let arrangement = arrange(&candidates, &built_in);
        let origin = |seat: &Seat| seat.loaded.as_ref().map_or("built-in".to_owned(), |of| of.configmap.clone());
        let seats = arrangement.seats.iter().map(|seat| format!("{} of {}", seat.name, origin(seat))).collect();
        let refused = arrangement.refused.into_iter().map(|(name, refusal)| (name, refusal.reason())).collect();
        (seats, refused)
    }

    const FILTER: &str = "default-filter of built-in";
    const REWRITE: &str = "default-rewrite of built-in";

    #[test]
    fn without_configmaps_the_built_in_ones_are_the_set() {
        assert_eq!(arranged(&[]), (vec![FILTER.to_owned(), REWRITE.to_owned()], vec![]));
    }

    #[test]
    fn priority_decides_and_then_the_name() {
        let policies = [own("c", 0), own("a", 5), own("b", 0), own("d", -1), own("z", BUILT_IN_PRIORITY)];
        let (seats, refused) = arranged(&policies.each_ref().map(|policy| (policy, None)));
        assert_eq!(seats, ["d of d", "b of b", "c of c", "a of a", FILTER, REWRITE, "z of z"]);
        assert_eq!(refused, []);
    }

    #[test]
    fn a_built_in_policy_is_moved_and_switched_off_by_a_configmap() {
        let early = loaded("early", "default-filter", -5);
        let (seats, _) = arranged(&[(&early, None), (&own("a", 0), None)]);
        assert_eq!(seats, ["default-filter of early", "a of a", REWRITE]);
        let (seats, _) = arranged(&[(&off(&early), None), (&own("a", 0), None)]);
        assert_eq!(seats, ["a of a", REWRITE]);
        let (seats, _) = arranged(&[(&off(&own("a", 0)), None)]);
        assert_eq!(seats, [FILTER, REWRITE]);
    }

    #[test]
    fn of_two_configmaps_for_a_built_in_policy_the_one_made_first_gives_it() {
        let (first, second) = (loaded("z", "default-filter", 1), loaded("a", "default-filter", 2));
        let (seats, refused) = arranged(&[(&first, None), (&second, None)]);
        assert_eq!(seats, ["default-filter of z", REWRITE]);
        assert_eq!(refused, [("a".to_owned(), "clash")]);
        // One that switches it off gives it as well.
        let (seats, refused) = arranged(&[(&off(&first), None), (&second, None)]);
        assert_eq!((seats, refused), (vec![REWRITE.to_owned()], vec![("a".to_owned(), "clash")]));
    }

    #[test]
    fn the_version_before_keeps_its_seat_where_the_newest_clashes() {
        let first = loaded("first", "default-filter", 1);
        let (newest, before) = (loaded("a", "default-filter", 2), loaded("a", "a", 3));
        let (seats, refused) = arranged(&[(&first, None), (&newest, Some(&before))]);
        assert_eq!(seats, ["default-filter of first", "a of a", REWRITE]);
        assert_eq!(refused, [("a".to_owned(), "clash")]);

        let before = loaded("a", "default-rewrite", 3);
        let (seats, _) = arranged(&[(&first, None), (&newest, Some(&before))]);
        assert_eq!(seats, ["default-filter of first", "default-rewrite of a"]);
        // A claim of a newest version comes before that of an older one, whoever was made first.
        let (seats, _) =
            arranged(&[(&first, None), (&newest, Some(&before)), (&loaded("b", "default-rewrite", 9), None)]);
        assert_eq!(seats, ["default-filter of first", "default-rewrite of b"]);
    }

    #[test]
    fn those_that_come_last_have_no_place() {
        let policies: Vec<_> = (0..MOST_POLICIES).map(|n| own(&format!("p{n:02}"), 0)).collect();
        let all: Vec<_> = policies.iter().rev().map(|policy| (policy, None)).collect();
        let (seats, refused) = arranged(&all);
        assert_eq!(seats.len(), MOST_POLICIES);
        assert_eq!(seats[13..], ["p13 of p13", FILTER, REWRITE]);
        assert_eq!(refused, [("p14".to_owned(), "too-many"), ("p15".to_owned(), "too-many")]);

        // Without the built-in ones there is place for all.
        let (filter, rewrite) = (off(&loaded("f", "default-filter", 0)), off(&loaded("r", "default-rewrite", 0)));
        let all: Vec<_> = all.into_iter().chain([(&filter, None), (&rewrite, None)]).collect();
        assert_eq!(arranged(&all).1, []);
    }
}
