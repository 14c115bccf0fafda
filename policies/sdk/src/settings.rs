use serde::de::DeserializeOwned;

/// What a policy is made from: the settings that came with it.
///
/// A struct with serde's `Deserialize` and a `Default` has this already. With `#[serde(deny_unknown_fields)]` a
/// misspelt setting is refused when it is applied, and not silently without effect. For a policy that reads its
/// settings in another way, or asks the [`host`](crate::host) for something once, this is the place.
pub trait Settings: Sized {
    /// Reads JSON text, which is empty where there are no settings. An error is for the person who wrote them.
    fn read(json: &str) -> Result<Self, String>;
}

impl<T: Default + DeserializeOwned> Settings for T {
    fn read(json: &str) -> Result<Self, String> {
        match json.trim() {
            // A YAML text of comments alone.
            "" | "null" => Ok(Self::default()),
            json => serde_json::from_str(json).map_err(|error| without_place(&error.to_string())),
        }
    }
}

/// The place is one in the JSON that the host made, which the author of the settings never sees.
fn without_place(words: &str) -> String {
    words.rsplit_once(" at line ").map_or(words, |(words, _)| words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Skip {
        namespaces: Vec<String>,
    }

    #[test]
    fn without_settings_a_policy_is_its_default() {
        for none in ["", " \n", "null"] {
            assert_eq!(Skip::read(none), Ok(Skip::default()));
        }
    }

    #[test]
    fn settings_are_json() {
        let ci = Skip { namespaces: vec!["ci".to_owned()] };
        assert_eq!(Skip::read(r#"{"namespaces": ["ci"]}"#), Ok(ci));
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let error = Skip::read(r#"{"namespace": ["ci"]}"#).unwrap_err();
        assert_eq!(error, "unknown field `namespace`, expected `namespaces`");
    }

    /// A struct of one's own may read its settings by itself: the implementations do not overlap.
    #[test]
    fn a_policy_can_do_without_serde() {
        struct None;
        impl Settings for None {
            fn read(json: &str) -> Result<Self, String> {
                if json.is_empty() { Ok(Self) } else { Err("there are none".to_owned()) }
            }
        }
        assert!(None::read("").is_ok() && None::read("{}").is_err());
    }
}
