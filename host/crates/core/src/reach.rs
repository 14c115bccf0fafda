use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::digest::parse_digest;

/// What a manifest says of others, by their digests in text, `sha256:…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Those that it needs: the images of an index, its layers, and whatever else it names.
    pub needs: BTreeSet<String>,
    /// Those of them that may be manifests: all but what it calls its configuration, its layers and its blobs.
    pub children: BTreeSet<String>,
    /// The one that it is about: of a signature, what it signs.
    pub subject: Option<String>,
}

/// The fields of a manifest that name what is no manifest
/// (<https://github.com/opencontainers/image-spec/blob/main/manifest.md>).
const BLOBS: [&str; 3] = ["config", "layers", "blobs"];

impl Named {
    /// Reads a manifest of any type. Whatever is called `digest` in it is named by it, wherever it stands: a type of
    /// tomorrow must lose nothing for being unknown today. `None` for what is no JSON.
    pub fn read(manifest: &[u8]) -> Option<Self> {
        let mut document: Value = serde_json::from_slice(manifest).ok()?;
        let subject = document.get_mut("subject").map(Value::take).unwrap_or_default();
        let blobs = BLOBS.map(|field| document.get_mut(field).map(Value::take).unwrap_or_default());
        let children = digests(&[document]);
        let needs = children.union(&digests(&blobs)).cloned().collect();
        Some(Self { needs, children, subject: digest(&subject["digest"]) })
    }
}

/// All that is called `digest` in any of these.
fn digests(documents: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut values: Vec<&Value> = documents.iter().collect();
    while let Some(value) = values.pop() {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("digest").and_then(digest));
                values.extend(fields.values());
            }
            Value::Array(items) => values.extend(items),
            _ => {}
        }
    }
    found
}

fn digest(value: &Value) -> Option<String> {
    value.as_str().and_then(|text| parse_digest(text).ok()).map(|digest| digest.to_string())
}

/// The manifests of a repository that are reached from its tags: what a tag names, what that needs, and what is about
/// something that is reached.
pub fn reached(tagged: &BTreeSet<String>, manifests: &BTreeMap<String, Named>) -> BTreeSet<String> {
    let mut about: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for (digest, named) in manifests {
        if let Some(subject) = &named.subject {
            about.entry(subject).or_default().push(digest);
        }
    }
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = tagged.iter().collect();
    while let Some(digest) = next.pop() {
        if reached.insert(digest.clone()) {
            next.extend(manifests.get(digest).into_iter().flat_map(|named| &named.needs));
            next.extend(about.get(digest).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    fn of(number: u8) -> String {
        format!("sha256:{number:064x}")
    }

    fn set(numbers: &[u8]) -> BTreeSet<String> {
        numbers.iter().map(|number| of(*number)).collect()
    }

    fn manifests(all: &[(u8, &[u8], Option<u8>)]) -> BTreeMap<String, Named> {
        let named = |needs: &[u8], subject: &Option<u8>| Named {
            needs: set(needs),
            children: set(needs),
            subject: subject.map(of),
        };
        all.iter().map(|(digest, needs, subject)| (of(*digest), named(needs, subject))).collect()
    }

    #[test]
    fn what_a_tag_reaches_stays() {
        let manifests = manifests(&[
            (1, &[2, 3], None),
            (2, &[4], None),
            (3, &[9], None),
            (4, &[], None),
            // Of a tag that moved away, with a child that the other has too.
            (5, &[3, 6], None),
            (6, &[], None),
            // A signature of the first, and one of the moved one.
            (7, &[], Some(1)),
            (8, &[], Some(5)),
        ]);
        assert_eq!(reached(&set(&[1]), &manifests), set(&[1, 2, 3, 4, 7, 9]));
        assert_eq!(reached(&set(&[]), &manifests), set(&[]));
    }

    #[test]
    fn a_tagged_signature_does_not_keep_what_it_signs() {
        assert_eq!(reached(&set(&[2]), &manifests(&[(1, &[], None), (2, &[], Some(1))])), set(&[2]));
    }

    #[test]
    fn a_manifest_names_whatever_it_calls_a_digest() {
        let manifest = format!(
            r#"{{"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}}],"subject":{{"digest":"{}"}},
            "manifests":[{{"digest":"{}"}},{{"digest":"../../etc"}}],"new":{{"deep":[[{{"digest":"{}"}}]]}}}}"#,
            of(1),
            of(2),
            of(3),
            of(4),
            of(5)
        );
        let named = Named::read(manifest.as_bytes()).unwrap();
        let expected = Named { needs: set(&[1, 2, 4, 5]), children: set(&[4, 5]), subject: Some(of(3)) };
        assert_eq!(named, expected);
        assert_eq!(Named::read(b"\x1f\x8b"), None);
        assert_eq!(Named::read(b"[]"), Some(Named::default()));
    }

    proptest! {
        #[test]
        fn nothing_that_is_needed_by_what_stays_goes(
            tagged in btree_set(0_u8..12, 0..4),
            edges in vec((btree_set(0_u8..12, 0..3), proptest::option::of(0_u8..12)), 12),
        ) {
            let named = |(needs, subject): &(BTreeSet<u8>, Option<u8>)| Named {
                needs: needs.iter().map(|number| of(*number)).collect(),
                children: BTreeSet::new(),
                subject: subject.map(of),
            };
            let manifests: BTreeMap<_, _> = (0..).map(of).zip(edges.iter().map(named)).collect();
            let tagged = tagged.into_iter().map(of).collect();
            let stays = reached(&tagged, &manifests);
            prop_assert!(tagged.is_subset(&stays));
            for (digest, named) in &manifests {
                if stays.contains(digest) {
                    prop_assert!(named.needs.is_subset(&stays));
                } else {
                    // And nothing stays for no reason.
                    prop_assert!(named.subject.as_ref().is_none_or(|subject| !stays.contains(subject)));
                }
            }
        }
    }
}
