use super::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

/// As much of a repository as matters here. Like distribution, 2 and 3, it takes a digest's tags away with it.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    tags: BTreeMap<String, String>,
    manifests: BTreeMap<String, Named>,
}

impl Model {
    fn delete(&mut self, digest: &str) {
        self.manifests.remove(digest);
        self.tags.retain(|_, named| named != digest);
    }

    fn due(&self) -> BTreeSet<&str> {
        self.tags.keys().map(String::as_str).filter(|tag| tag.starts_with("due")).collect()
    }

    /// As the walk finds them: what is led to, and is there.
    fn reachable(&self) -> BTreeMap<String, Named> {
        let mut found = BTreeMap::new();
        let mut next: Vec<&String> = self.tags.values().collect();
        while let Some(digest) = next.pop() {
            if let Some(named) = self.manifests.get(digest)
                && found.insert(digest.clone(), named.clone()).is_none()
            {
                next.extend(&named.children);
            }
        }
        found
    }

    /// Removes what is due, cut after so many steps.
    fn sweep(&mut self, steps: usize) {
        let Doomed { manifests, tags, .. } = Doomed::of(&self.tags, &self.due(), &self.reachable());
        manifests.iter().take(steps).for_each(|digest| self.delete(digest));
        for tag in tags.iter().take(steps.saturating_sub(manifests.len())) {
            self.tags.remove(tag);
        }
    }

    /// The tags of others, and all that they need, as far as anybody can find it: what is about something and has no tag,
    /// the registry does not list.
    fn kept(&self) -> (BTreeMap<String, String>, BTreeSet<String>) {
        let mut tags = self.tags.clone();
        tags.retain(|tag, _| !tag.starts_with("due"));
        let needed = reached(&tags.values().cloned().collect(), &self.reachable());
        (tags, needed.into_iter().filter(|digest| self.manifests.contains_key(digest)).collect())
    }
}

/// Numbers for digests; a manifest names only those below it, because a digest cannot be in what it is of.
fn models() -> impl Strategy<Value = Model> {
    let manifests = vec((btree_set(0_usize..12, 0..4), proptest::option::of(0_usize..12), any::<bool>()), 12);
    let tags = btree_map("(due|tag)[0-9]", 0_usize..12, 0..8);
    (manifests, tags).prop_map(|(manifests, tags)| {
        let manifests = manifests.into_iter().enumerate().filter_map(|(number, (children, subject, is_there))| {
            let children: BTreeSet<String> =
                children.into_iter().filter(|child| *child < number).map(|child| child.to_string()).collect();
            let subject = subject.filter(|subject| *subject < number).map(|subject| subject.to_string());
            is_there.then(|| (number.to_string(), Named { needs: children.clone(), children, subject }))
        });
        let tags = tags.into_iter().map(|(tag, digest)| (tag, digest.to_string())).collect();
        Model { tags, manifests: manifests.collect() }
    })
}

proptest! {
    #[test]
    fn what_another_tag_leads_to_stays_wherever_it_is_cut(model in models(), steps in 0_usize..20) {
        let mut after = model.clone();
        after.sweep(steps);
        let (tags, needed) = model.kept();
        prop_assert_eq!(after.kept().0, tags);
        for digest in needed {
            prop_assert!(after.manifests.contains_key(&digest), "{} is gone", digest);
        }
    }

    /// What was cut is made good by the next: nothing is left that only a tag of ours had led to.
    #[test]
    fn the_next_one_goes_on_where_one_was_cut(model in models(), steps in 0_usize..20) {
        let (mut at_once, mut cut) = (model.clone(), model);
        at_once.sweep(usize::MAX);
        cut.sweep(steps);
        cut.sweep(usize::MAX);
        prop_assert_eq!(&cut, &at_once);
        let all = at_once.clone();
        at_once.sweep(usize::MAX);
        prop_assert_eq!(&all, &at_once);
    }

    /// A manifest that no tag leads to is never found again.
    #[test]
    fn nothing_gets_out_of_sight(model in models()) {
        let mut after = model.clone();
        after.sweep(usize::MAX);
        let seen = after.reachable();
        for digest in model.reachable().keys() {
            prop_assert!(!after.manifests.contains_key(digest) || seen.contains_key(digest), "{} is out of sight", digest);
        }
    }
}

fn named(children: &[&str], blobs: &[&str]) -> Named {
    let children: BTreeSet<String> = children.iter().map(|child| (*child).to_owned()).collect();
    let blobs = blobs.iter().map(|blob| (*blob).to_owned());
    Named { needs: children.iter().cloned().chain(blobs).collect(), children, subject: None }
}

fn tags(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(tag, digest)| ((*tag).to_owned(), (*digest).to_owned())).collect()
}

#[test]
fn an_index_goes_after_its_images_and_leaves_those_of_others() {
    let manifests = [
        ("index", named(&["amd64", "arm64", "absent"], &[])),
        ("other", named(&["arm64"], &[])),
        ("amd64", named(&[], &["own", "shared"])),
        ("arm64", named(&[], &["shared"])),
    ];
    let manifests = manifests.map(|(digest, named)| (digest.to_owned(), named)).into();
    let due = BTreeSet::from(["due"]);
    let doomed = Doomed::of(&tags(&[("due", "index"), ("1.0", "other")]), &due, &manifests);
    // Its layers are left to `garbage-collect`, which finds the repository by the other tag.
    assert_eq!((doomed.links.len(), &*doomed.manifests), (0, &["amd64".to_owned(), "index".to_owned()][..]));

    let alone = Doomed::of(&tags(&[("due", "index")]), &due, &manifests);
    assert_eq!(alone.manifests.len(), 3);
    assert_eq!(alone.links, ["own", "shared"].map(str::to_owned).into());
}
