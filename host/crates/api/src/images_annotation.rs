use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cache_registry_core::Reference;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What was decided for each container of a pod, by the container's name: the value of
/// [`IMAGES_ANNOTATION`](crate::labels::IMAGES_ANNOTATION).
///
/// ```json
/// {
///   "side": {"original": "app", "leftAlone": "imagePullPolicy is Never"},
///   "web": {"original": "nginx:1.27", "source": "docker.io/library/nginx:1.27"}
/// }
/// ```
///
/// Anyone who may create a pod can write this annotation, so it is a claim to be checked against the pod and not a
/// fact. Reading it costs time and memory in proportion to its length, and its length is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ImagesAnnotation(pub BTreeMap<String, ImageEntry>);

/// What was decided for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// The image as the pod's author wrote it, letter by letter.
    pub original: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of one container's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The container pulls from the node address; this is where the cache fetches the image from.
    #[serde(rename = "source", serialize_with = "as_text", deserialize_with = "from_text")]
    Rewritten(Reference),
    /// The image stays as it was written, for this reason.
    #[serde(rename = "leftAlone")]
    LeftAlone(String),
}

/// Why a text is no [`ImagesAnnotation`].
#[derive(Debug, thiserror::Error)]
pub enum InvalidImagesAnnotation {
    /// Kubernetes itself allows no more for all annotations of an object together.
    #[error("{0} bytes, at most {LONGEST} are read")]
    TooLong(usize),
    /// Not a JSON object.
    #[error("not a JSON object of containers: {0}")]
    NotAnObject(#[from] serde_json::Error),
}

// What the API server allows for all annotations of an object together (`TotalAnnotationSizeLimitB`).
const LONGEST: usize = 256 * 1024;

impl FromStr for ImagesAnnotation {
    type Err = InvalidImagesAnnotation;

    /// Reads the annotation's value. An entry that is not of the form above is left out: one that was damaged must not
    /// hide the others.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            return Err(InvalidImagesAnnotation::TooLong(text.len()));
        }
        let containers: BTreeMap<String, Value> = serde_json::from_str(text)?;
        let entries = containers.into_iter().filter_map(|(container, entry)| {
            let entry = ImageEntry::deserialize(entry).ok()?;
            Some((container, entry))
        });
        Ok(Self(entries.collect()))
    }
}

impl fmt::Display for ImagesAnnotation {
    /// Writes the annotation's value: JSON on one line, containers by name, so that equal decisions are equal texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

fn as_text<S: Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reference)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TEXT: &str = concat!(
        r#"{"side":{"original":"app","leftAlone":"imagePullPolicy is Never"},"#,
        r#""web":{"original":"nginx:1.27","source":"docker.io/library/nginx:1.27"}}"#
    );

    #[test]
    fn reads_what_it_writes() {
        let annotation: ImagesAnnotation = TEXT.parse().unwrap();
        let web = ImageEntry {
            original: "nginx:1.27".to_owned(),
            outcome: Outcome::Rewritten("nginx:1.27".parse().unwrap()),
        };
        let side = ImageEntry {
            original: "app".to_owned(),
            outcome: Outcome::LeftAlone("imagePullPolicy is Never".to_owned()),
        };
        assert_eq!(annotation.0, BTreeMap::from([("web".to_owned(), web), ("side".to_owned(), side)]));
        assert_eq!(annotation.to_string(), TEXT);
    }

    #[rstest]
    #[case::no_outcome(r#"{"original":"a"}"#)]
    #[case::no_original(r#"{"source":"nginx"}"#)]
    #[case::not_a_reference(r#"{"original":"a","source":"../../etc/passwd"}"#)]
    #[case::not_a_text(r#"{"original":"a","source":{"x":[1]}}"#)]
    #[case::not_an_object("7")]
    #[case::null("null")]
    fn a_damaged_entry_does_not_hide_the_others(#[case] damaged: &str) {
        let text = format!(r#"{{"a":{damaged},"web":{{"original":"nginx","source":"nginx"}}}}"#);
        let annotation: ImagesAnnotation = text.parse().unwrap();
        assert_eq!(annotation.0.keys().collect::<Vec<_>>(), ["web"]);
    }

    #[rstest]
    #[case::empty("")]
    #[case::list("[]")]
    #[case::cut(r#"{"web":{"#)]
    #[case::deep(&format!(r#"{{"web":{}"#, "[".repeat(100_000)))]
    #[case::long(&format!(r#"{{"web":"{}"}}"#, "x".repeat(300_000)))]
    fn what_is_not_an_object_of_containers_is_refused(#[case] text: &str) {
        assert!(text.parse::<ImagesAnnotation>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = text.parse::<ImagesAnnotation>();
        }

        #[test]
        fn every_container_name_and_original_survives(name in ".{0,40}", original in ".{0,40}", reason in ".{0,40}") {
            let entry = ImageEntry { original, outcome: Outcome::LeftAlone(reason) };
            let annotation = ImagesAnnotation(BTreeMap::from([(name, entry)]));
            proptest::prop_assert_eq!(annotation.to_string().parse::<ImagesAnnotation>().unwrap(), annotation);
        }
    }
}
