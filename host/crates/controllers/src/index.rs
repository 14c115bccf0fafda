use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cache_registry_core::Reference;
use kube_runtime::watcher::Event;

/// Which objects of one kind use which images, kept from their watch. Of an object only its name and its images stay in
/// memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    known: Known,
    /// What a listing has brought so far; it takes the place of what is known when it is complete.
    listing: Known,
    complete: bool,
}

#[derive(Debug, Default)]
struct Known {
    images_of: HashMap<Arc<str>, Vec<Arc<Reference>>>,
    users_of: HashMap<Arc<Reference>, BTreeSet<Arc<str>>>,
}

impl Index {
    /// Takes in what the watch says, and gives the images of which the users changed. `read` gives the images of an
    /// object.
    pub(crate) fn apply<K: kube::Resource>(
        &mut self,
        event: &Event<K>,
        read: impl FnOnce(&K) -> HashSet<Reference>,
    ) -> HashSet<Arc<Reference>> {
        match event {
            Event::Init => {
                self.listing = Known::default();
                HashSet::new()
            }
            Event::InitApply(object) => {
                self.listing.set(&key(object), read(object));
                HashSet::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listing));
                self.complete = true;
                self.known.differences(&before)
            }
            Event::Apply(object) => self.known.set(&key(object), read(object)),
            Event::Delete(object) => self.known.set(&key(object), HashSet::new()),
        }
    }

    /// True once all objects were listed. Before, that an image has no users means nothing.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// All images that are used.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<Reference>> {
        self.known.users_of.keys()
    }

    /// Who uses the image, as `namespace/name`, in order; `None` for nobody.
    pub(crate) fn users(&self, image: &Reference) -> Option<&BTreeSet<Arc<str>>> {
        self.known.users_of.get(image)
    }
}

impl Known {
    fn set(&mut self, user: &Arc<str>, sources: HashSet<Reference>) -> HashSet<Arc<Reference>> {
        let before = self.images_of.remove(user).unwrap_or_default();
        let mut changed = HashSet::new();
        for source in before.iter().filter(|source| !sources.contains(source.as_ref())) {
            if let Some(users) = self.users_of.get_mut(source) {
                users.remove(user);
                if users.is_empty() {
                    self.users_of.remove(source);
                }
            }
            changed.insert(source.clone());
        }
        if sources.is_empty() {
            return changed;
        }
        let mut images = Vec::with_capacity(sources.len());
        for source in sources {
            // One allocation for an image however many use it.
            let source =
                self.users_of.get_key_value(&source).map_or_else(|| Arc::new(source), |(known, _)| known.clone());
            if self.users_of.entry(source.clone()).or_default().insert(user.clone()) {
                changed.insert(source.clone());
            }
            images.push(source);
        }
        self.images_of.insert(user.clone(), images);
        changed
    }

    fn differences(&self, before: &Self) -> HashSet<Arc<Reference>> {
        let both = self.users_of.keys().chain(before.users_of.keys());
        both.filter(|source| self.users_of.get(*source) != before.users_of.get(*source)).cloned().collect()
    }
}

fn key(object: &impl kube::Resource) -> Arc<str> {
    let meta = object.meta();
    let [namespace, name] = [&meta.namespace, &meta.name].map(|part| part.as_deref().unwrap_or_default());
    format!("{namespace}/{name}").into()
}
