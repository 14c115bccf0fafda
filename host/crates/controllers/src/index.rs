use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cache_registry_core::Reference;
use kube_runtime::watcher::Event;

use crate::pull_secrets::PullSecret;

/// What an object asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub(crate) images: HashSet<Reference>,
    /// The names of Secrets in its own namespace with which they are pulled.
    pub(crate) pull_secrets: Vec<Arc<str>>,
}

/// Which objects of one kind use which images, kept from their watch. Of an object only its name, its images and the names
/// of its pull secrets stay in memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    known: Known,
    /// What a listing has brought so far; it takes the place of what is known when it is complete.
    listing: Known,
    complete: bool,
}

#[derive(Debug, Default)]
struct Known {
    objects: HashMap<Arc<str>, Object>,
    users_of: HashMap<Arc<Reference>, BTreeSet<Arc<str>>>,
}

#[derive(Debug, Default)]
struct Object {
    images: Box<[Arc<Reference>]>,
    pull_secrets: Box<[Arc<str>]>,
}

impl Index {
    /// Takes in what the watch says, and gives the images of which the users changed. `read` gives what an object asks
    /// for.
    pub(crate) fn apply<K: kube::Resource>(
        &mut self,
        event: &Event<K>,
        read: impl FnOnce(&K) -> Uses,
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
            Event::Delete(object) => self.known.set(&key(object), Uses::default()),
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

    /// What those who use the image pull it with.
    pub(crate) fn pull_secrets(&self, image: &Reference) -> impl Iterator<Item = PullSecret> {
        let objects = &self.known.objects;
        let users = self.users(image).into_iter().flatten().filter_map(|user| Some((user, objects.get(user)?)));
        users.flat_map(|(user, object)| {
            let namespace: Arc<str> = user.split('/').next().unwrap_or_default().into();
            object.pull_secrets.iter().map(move |name| PullSecret { namespace: namespace.clone(), name: name.clone() })
        })
    }
}

impl Known {
    fn set(&mut self, user: &Arc<str>, now: Uses) -> HashSet<Arc<Reference>> {
        let before = self.objects.remove(user).unwrap_or_default();
        let mut changed = HashSet::new();
        for source in before.images.iter().filter(|source| !now.images.contains(source.as_ref())) {
            if let Some(users) = self.users_of.get_mut(source) {
                users.remove(user);
                if users.is_empty() {
                    self.users_of.remove(source);
                }
            }
            changed.insert(source.clone());
        }
        if now.images.is_empty() {
            return changed;
        }
        let mut images = Vec::with_capacity(now.images.len());
        for source in now.images {
            // One allocation for an image however many use it.
            let source =
                self.users_of.get_key_value(&source).map_or_else(|| Arc::new(source), |(known, _)| known.clone());
            if self.users_of.entry(source.clone()).or_default().insert(user.clone()) {
                changed.insert(source.clone());
            }
            images.push(source);
        }
        let object = Object { images: images.into(), pull_secrets: now.pull_secrets.into() };
        self.objects.insert(user.clone(), object);
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
