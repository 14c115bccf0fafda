//! Settings as people write them, YAML or JSON, and as policies are given them, compact JSON.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::Refusal;

/// The longest settings, as they are written and as a policy is given them, in bytes.
pub const LONGEST_SETTINGS: usize = 256 << 10;

/// The JSON of settings that are written in JSON or in YAML 1.2; empty for those that say nothing.
///
/// The refusal names the line and the column. What aliases of YAML expand to is bounded as the rest is.
pub fn settings_json(text: &str) -> Result<String, Refusal> {
    if text.len() > LONGEST_SETTINGS {
        return Err(too_long());
    }
    let value = match serde_json::from_str(text) {
        Ok(value) => value,
        // Where it is neither, the reader of YAML says where it goes wrong.
        Err(_) => yaml(text)?,
    };
    let json = match value {
        Value::Null => String::new(),
        value => value.to_string(),
    };
    if json.len() > LONGEST_SETTINGS { Err(too_long()) } else { Ok(json) }
}

fn yaml(text: &str) -> Result<Value, Refusal> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! {
        // What is no boolean in JSON is a text: the country code NO, an image called `on`.
        strict_booleans: true,
        reject_unsupported_tags: true,
        emit_comments: false,
    };
    let left = Cell::new(LONGEST_SETTINGS);
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| Bounded(&left).deserialize(yaml))
        .map_err(|error| malformed(&error))
}

fn malformed(error: &serde_saphyr::Error) -> Refusal {
    // The default rendering shows a part of the text, which may be secret.
    let error = error.without_snippet();
    let words = error.to_string();
    let Some(place) = error.location() else {
        return Refusal::new("settings", format_args!("settings are neither JSON nor YAML: {words}"));
    };
    let place = format!("line {}, column {}", place.line(), place.column());
    let words = words.strip_suffix(&format!(" at {place}")).unwrap_or(&words);
    Refusal::new("settings", format_args!("settings are neither JSON nor YAML: {place}: {words}"))
}

fn too_long() -> Refusal {
    let limit = LONGEST_SETTINGS >> 10;
    Refusal::new("settings", format_args!("settings are longer than {limit} KiB, aliases expanded: make them shorter"))
}

/// Reads a value as long as so many bytes are left: an alias of YAML can stand for more than memory holds.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Cell<usize>);

impl Bounded<'_> {
    /// Takes a value of so many bytes, and what separates it from the next.
    fn charge<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(bytes + 1);
        self.0.set(left.ok_or_else(|| E::custom(format_args!("more than {} KiB", LONGEST_SETTINGS >> 10)))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON has: a text, a number, true, false, null, a list or a map")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.charge(4).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.charge(1).map(|()| value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.charge(1).map(|()| value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.charge(1)?;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("JSON has no infinity, and no NaN"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.charge(value.len()).map(|()| value.into())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.charge(value.len()).map(|()| value.into())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.charge(4).map(|()| Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.charge(1)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.charge(1)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.charge(key.len())?;
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::fmt::Write as _;

    #[rstest]
    #[case::json(r#"{ "b": [1, 2.5, null], "a": "x" }"#, r#"{"a":"x","b":[1,2.5,null]}"#)]
    #[case::yaml("namespaces:\n  - dev\n  - test\n", r#"{"namespaces":["dev","test"]}"#)]
    #[case::block_text("text: |\n  a\n  b\n", r#"{"text":"a\nb\n"}"#)]
    #[case::a_country("country: NO\non: yes\n", r#"{"country":"NO","on":"yes"}"#)]
    #[case::a_scalar("docker.io", "\"docker.io\"")]
    #[case::a_number("17", "17")]
    #[case::keys_of_numbers("1: one\n", r#"{"1":"one"}"#)]
    #[case::an_alias("a: &a [1, 2]\nb: *a\n", r#"{"a":[1,2],"b":[1,2]}"#)]
    #[case::merged("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", r#"{"a":{"x":1},"b":{"x":1,"y":2}}"#)]
    #[case::nothing("", "")]
    #[case::space("  \n", "")]
    #[case::a_comment("# nothing yet\n", "")]
    #[case::null("null", "")]
    fn settings_become_compact_json(#[case] text: &str, #[case] json: &str) {
        assert_eq!(settings_json(text).unwrap(), json);
    }

    #[rstest]
    #[case::broken_json("{\n  \"a\": 1,\n  \"b\" 2\n}\n", "line 3, column")]
    #[case::indentation("a:\n  - b\n c: d\n", "line 3, column")]
    #[case::twice("a: 1\na: 2\n", "line 2, column 1")]
    #[case::two_documents("a: 1\n---\nb: 2\n", "line")]
    #[case::infinity("a: .inf\n", "line 1, column 4")]
    #[case::a_tag("a: !secret b\n", "line 1, column")]
    #[case::no_anchor("a: *b\n", "line 1, column 4")]
    #[case::tab("a:\n\t- b\n", "line 2, column")]
    fn a_mistake_is_told_with_its_place(#[case] text: &str, #[case] place: &str) {
        let refusal = settings_json(text).unwrap_err();
        assert_eq!(refusal.reason(), "settings");
        assert!(refusal.to_string().contains(place), "{place:?} is not in {refusal}");
    }

    #[test]
    fn long_settings_are_refused() {
        assert!(settings_json(&format!("{:?}", "x".repeat(LONGEST_SETTINGS - 2))).is_ok());
        for text in [format!("{:?}", "x".repeat(LONGEST_SETTINGS)), format!("'{}'", "\"".repeat(LONGEST_SETTINGS - 10))]
        {
            assert!(settings_json(&text).unwrap_err().to_string().contains("longer than 256 KiB"));
        }
    }

    /// What the fuzzer found: without care a number changes in its last digit each time that it is read.
    #[test]
    fn a_number_stays_what_it_is() {
        assert_eq!(settings_json("1.1111111111111111e+21").unwrap(), "1.1111111111111111e+21");
    }

    #[test]
    fn aliases_cannot_expand_to_more() {
        let mut nested = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            writeln!(nested, "a{level}: &a{level} [{}]", [below.as_str(); 10].join(", ")).unwrap();
        }
        // One long text, over and over.
        let flat = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), ["*a"; 90].join(", "));
        for bomb in [nested, flat] {
            let refusal = settings_json(&bomb).unwrap_err().to_string();
            // While it is read, and not when it is there.
            assert!(refusal.contains("more than 256 KiB"), "{refusal}");
        }
    }

    #[test]
    fn a_deep_nest_is_refused() {
        for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(60_000)] {
            assert_eq!(settings_json(&text).unwrap_err().reason(), "settings");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_json_reads_stays_what_it_is(list in proptest::collection::vec("\\PC{0,20}", 0..20)) {
            let json = serde_json::to_string(&list).unwrap();
            proptest::prop_assert_eq!(settings_json(&json).unwrap(), json);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[-:&*\\[\\]{}!<>|'\"# \\n\\ta-c0-9]{0,60}") {
            let _ = settings_json(&text);
        }
    }
}
