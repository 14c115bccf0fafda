use std::collections::BTreeMap;
use std::sync::Arc;

use cache_registry_policy::Policy;
use jiff::Timestamp;

use crate::Refusal;
use crate::arrangement::{Arrangement, Candidate, Loaded, arrange};

/// What is known of the `ConfigMap`s: their newest versions, and what of each was loaded last.
#[derive(Debug)]
pub(crate) struct Roster {
    built_in: Vec<Arc<Policy>>,
    entries: BTreeMap<String, Entry>,
    versions: u64,
}

/// A `ConfigMap`.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) version: Version,
    /// The number of its newest version.
    pub(crate) number: u64,
    /// True until the first word about that has come.
    pub(crate) pending: bool,
    /// The newest version that was loaded.
    pub(crate) newest: Option<Arc<Loaded>>,
    /// The one that was in force before, for as long as that is not.
    before: Option<Arc<Loaded>>,
    /// Why the newest version, or what its image has become, was not loaded.
    refused: Option<Refused>,
}

/// Something new that is not in force, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) at: Timestamp,
}

/// A state of a `ConfigMap`, as the API server names it.
#[expect(clippy::struct_field_names, reason = "the name that Kubernetes gives it")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) created: Option<Timestamp>,
    /// A hash of all that it says.
    pub(crate) content: u64,
}

/// What has become of a version.
#[derive(Debug)]
pub(crate) enum Outcome {
    Loaded(Box<Loaded>),
    Refused(Refusal),
    /// What an image's tag names is what was loaded before.
    Unchanged,
}

impl Roster {
    pub(crate) fn new(built_in: &[Arc<Policy>]) -> Self {
        Self { built_in: built_in.to_vec(), entries: BTreeMap::new(), versions: 0 }
    }

    /// Notes a version of a `ConfigMap`. Returns the number under which its outcome is awaited; `None` where it says
    /// nothing new.
    pub(crate) fn declared(&mut self, configmap: &str, version: Version) -> Option<u64> {
        let number = self.versions + 1;
        match self.entries.get_mut(configmap) {
            // The same object.
            Some(entry) if entry.version.uid == version.uid => {
                let is_new = entry.version.content != version.content;
                entry.version = version;
                if !is_new {
                    return None;
                }
                (entry.number, entry.pending) = (number, true);
            }
            // One of the same name before it was deleted: nothing of it stays.
            _ => {
                let entry = Entry { version, number, pending: true, newest: None, before: None, refused: None };
                self.entries.insert(configmap.to_owned(), entry);
            }
        }
        self.versions = number;
        Some(number)
    }

    /// Forgets a `ConfigMap`.
    pub(crate) fn removed(&mut self, configmap: &str) {
        self.entries.remove(configmap);
    }

    /// Notes what has become of the version of that number. False where a newer one has come, or the `ConfigMap` has
    /// gone.
    pub(crate) fn ended(&mut self, configmap: &str, number: u64, outcome: Outcome, at: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(configmap).filter(|entry| entry.number == number) else { return false };
        entry.pending = false;
        entry.refused = match outcome {
            Outcome::Loaded(loaded) => {
                let last = entry.newest.replace(Arc::from(loaded));
                // Where there is one, the last was never in force.
                entry.before = entry.before.take().or(last);
                None
            }
            Outcome::Refused(refusal) => Some(Refused { refusal, at }),
            Outcome::Unchanged => None,
        };
        true
    }

    /// Decides who is in the set.
    pub(crate) fn arrange(&mut self) -> Arrangement {
        let candidates: Vec<_> = self.entries.iter().filter_map(|(name, entry)| entry.candidate(name)).collect();
        let arrangement = arrange(&candidates, &self.built_in);
        for (name, entry) in &mut self.entries {
            if arrangement.refused.get(name).is_none_or(|refusal| !refusal.is_of_version()) {
                entry.before = None;
            }
        }
        arrangement
    }

    /// True when there has been word about every newest version.
    pub(crate) fn is_settled(&self) -> bool {
        self.entries.values().all(|entry| !entry.pending)
    }

    /// A `ConfigMap`.
    pub(crate) fn entry(&self, configmap: &str) -> Option<&Entry> {
        self.entries.get(configmap)
    }

    /// Every `ConfigMap`, by name.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }
}

impl Entry {
    fn candidate<'a>(&'a self, configmap: &'a str) -> Option<Candidate<'a>> {
        let newest = self.newest.as_ref()?;
        Some(Candidate { configmap, created: self.version.created, newest, before: self.before.as_ref() })
    }

    /// What of it is not in force, and why.
    pub(crate) fn refused(&self, configmap: &str, arrangement: &Arrangement) -> Option<Refused> {
        let unplaced = || {
            let refusal = arrangement.refused.get(configmap)?.clone();
            Some(Refused { refusal, at: self.newest.as_ref()?.at })
        };
        self.refused.clone().or_else(unplaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{engine, filter};
    use cache_registry_policy::{OnError, built_in};

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn roster() -> Roster {
        Roster::new(&built_in::load(&engine()).unwrap())
    }

    fn version(content: u64) -> Version {
        Version { uid: "1".to_owned(), resource_version: content.to_string(), created: None, content }
    }

    fn loaded(configmap: &str, name: &str, priority: i32) -> Outcome {
        Outcome::Loaded(Box::new(Loaded {
            configmap: configmap.to_owned(),
            number: 1,
            name: name.to_owned(),
            priority,
            on_error: OnError::Leave,
            built_in: built_in::NAMES.into_iter().find(|built_in| *built_in == name),
            policy: Some(filter(name)),
            pulled: None,
            at: AT,
        }))
    }

    fn refused(reason: &'static str) -> Outcome {
        Outcome::Refused(Refusal::new(reason, reason))
    }

    /// The priorities of the set, without the built-in ones that nobody gives.
    fn seats(roster: &mut Roster) -> Vec<(String, i32)> {
        let seats = roster.arrange().seats.into_iter().filter(|seat| seat.loaded.is_some());
        seats.map(|seat| (seat.name, seat.priority)).collect()
    }

    fn reason(roster: &mut Roster, configmap: &str) -> Option<&'static str> {
        let arrangement = roster.arrange();
        roster.entry(configmap)?.refused(configmap, &arrangement).map(|refused| refused.refusal.reason())
    }

    #[test]
    fn a_version_that_loads_takes_the_place_of_the_one_before() {
        let mut roster = roster();
        for (content, priority) in [(1, 5), (2, 7)] {
            let number = roster.declared("a", version(content)).unwrap();
            assert!(!roster.is_settled());
            assert!(roster.ended("a", number, loaded("a", "a", priority), AT));
            assert!(roster.is_settled());
            assert_eq!(seats(&mut roster), [("a".to_owned(), priority)]);
        }
    }

    #[test]
    fn the_last_good_version_stays_until_the_configmap_goes() {
        let mut roster = roster();
        let first = roster.declared("a", version(1)).unwrap();
        roster.ended("a", first, loaded("a", "a", 5), AT);
        for content in 2..5 {
            let number = roster.declared("a", version(content)).unwrap();
            assert_eq!(seats(&mut roster), [("a".to_owned(), 5)]);
            roster.ended("a", number, refused("not-wasm"), AT);
            assert_eq!(seats(&mut roster), [("a".to_owned(), 5)]);
            assert_eq!(reason(&mut roster, "a"), Some("not-wasm"));
        }
        roster.removed("a");
        assert_eq!(seats(&mut roster), []);
        // What was refused is no matter any more.
        let number = roster.declared("a", version(1)).unwrap();
        assert_eq!(reason(&mut roster, "a"), None);
        roster.ended("a", number, loaded("a", "a", 1), AT);
        assert_eq!(seats(&mut roster), [("a".to_owned(), 1)]);
    }

    #[test]
    fn a_new_object_of_the_name_keeps_nothing_of_the_old_one() {
        let mut roster = roster();
        let first = roster.declared("a", version(1)).unwrap();
        roster.ended("a", first, loaded("a", "a", 5), AT);
        // The deletion was not seen.
        let second = roster.declared("a", Version { uid: "2".to_owned(), ..version(1) }).unwrap();
        roster.ended("a", second, refused("not-wasm"), AT);
        assert_eq!(seats(&mut roster), []);
    }

    #[test]
    fn only_the_newest_version_counts() {
        let mut roster = roster();
        let (first, second) = (roster.declared("a", version(1)).unwrap(), roster.declared("a", version(2)).unwrap());
        assert!(!roster.ended("a", first, loaded("a", "a", 1), AT));
        assert!(roster.ended("a", second, loaded("a", "a", 2), AT));
        assert!(!roster.ended("a", first, loaded("a", "a", 1), AT));
        assert_eq!(seats(&mut roster), [("a".to_owned(), 2)]);
        roster.removed("a");
        assert!(!roster.ended("a", second, loaded("a", "a", 2), AT));
    }

    #[test]
    fn what_says_nothing_new_is_no_version() {
        let mut roster = roster();
        let number = roster.declared("a", version(1)).unwrap();
        let annotated = Version { resource_version: "9".to_owned(), ..version(1) };
        assert_eq!(roster.declared("a", annotated.clone()), None);
        assert_eq!(roster.entry("a").unwrap().version, annotated);
        assert!(roster.ended("a", number, loaded("a", "a", 1), AT));
    }

    #[test]
    fn an_image_that_is_there_again_is_refused_no_more() {
        let mut roster = roster();
        let number = roster.declared("a", version(1)).unwrap();
        roster.ended("a", number, loaded("a", "a", 1), AT);
        roster.ended("a", number, refused("image-unreachable"), AT);
        assert_eq!((seats(&mut roster).len(), reason(&mut roster, "a")), (1, Some("image-unreachable")));
        roster.ended("a", number, Outcome::Unchanged, AT);
        assert_eq!((seats(&mut roster).len(), reason(&mut roster, "a")), (1, None));
    }

    #[test]
    fn the_last_good_version_stays_where_the_newest_clashes() {
        let mut roster = roster();
        let mut step = |configmap: &str, content, outcome| {
            let number = roster.declared(configmap, version(content)).unwrap();
            roster.ended(configmap, number, outcome, AT);
            (seats(&mut roster), reason(&mut roster, "b"))
        };
        let filter = ("default-filter".to_owned(), 1);
        let good = ("b".to_owned(), 3);
        assert_eq!(step("a", 1, loaded("a", "default-filter", 1)).0, std::slice::from_ref(&filter));
        assert_eq!(step("b", 1, loaded("b", "b", 3)), (vec![filter.clone(), good.clone()], None));
        for content in 2..4 {
            let clash = loaded("b", "default-filter", 2);
            assert_eq!(step("b", content, clash), (vec![filter.clone(), good.clone()], Some("clash")));
        }
        // It takes the place as soon as that is free.
        assert_eq!(
            step("a", 2, loaded("a", "a", 0)),
            (vec![("a".to_owned(), 0), ("default-filter".to_owned(), 2)], None)
        );
        // The good version is not kept beyond that.
        assert_eq!(step("b", 5, loaded("b", "b", 8)), (vec![("a".to_owned(), 0), ("b".to_owned(), 8)], None));
    }
}
