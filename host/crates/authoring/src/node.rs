use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::Spanned;

/// A value of a document, and where it stands there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) place: Place,
}

/// What JSON has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Neither a list nor a map.
    Scalar(serde_json::Value),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

/// Where something begins in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// A node in JSON, that remembers what stood where.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) json: String,
    /// What each node became in it.
    ranges: Vec<(Range<usize>, Place)>,
}

impl Node {
    pub(crate) fn text(text: &str, place: Place) -> Self {
        Self { content: Content::Scalar(text.into()), place }
    }

    pub(crate) fn map<const N: usize>(entries: [(&str, Node); N], place: Place) -> Self {
        let entries = entries.into_iter().map(|(key, node)| (key.to_owned(), node));
        Self { content: Content::Map(entries.collect()), place }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(map) => map.get(key),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// What is found by key after key.
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text under the keys, where there is one that is not empty.
    pub(crate) fn find_text(&self, path: &[&str]) -> Option<&str> {
        match &self.find(path)?.content {
            Content::Scalar(serde_json::Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(serde_json::Value::Null))
    }

    pub(crate) fn to_json(&self) -> Written {
        let mut written = Written { json: String::new(), ranges: Vec::new() };
        written.write(self);
        written
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Written {
    /// Where that stood at which a reader of the JSON stopped, so many bytes from its beginning: before a list or a map
    /// that it did not expect, or within anything else.
    pub(crate) fn place_of(&self, read: usize) -> Option<Place> {
        let next = self.ranges.iter().filter(|(range, _)| range.start == read);
        let around = self.ranges.iter().filter(|(range, _)| range.start < read && read <= range.end);
        let narrowest = around.min_by_key(|(range, _)| range.len());
        next.max_by_key(|(range, _)| range.len()).or(narrowest).map(|(_, place)| *place)
    }

    fn write(&mut self, node: &Node) {
        let start = self.json.len();
        match &node.content {
            Content::Scalar(value) => self.json += &value.to_string(),
            Content::List(list) => {
                self.json.push('[');
                for (index, node) in list.iter().enumerate() {
                    self.json.push_str(if index > 0 { "," } else { "" });
                    self.write(node);
                }
                self.json.push(']');
            }
            Content::Map(map) => {
                self.json.push('{');
                for (index, (key, node)) in map.iter().enumerate() {
                    self.json.push_str(if index > 0 { "," } else { "" });
                    self.json += &serde_json::Value::from(key.as_str()).to_string();
                    self.json.push(':');
                    self.write(node);
                }
                self.json.push('}');
            }
        }
        self.ranges.push((start..self.json.len(), node.place));
    }
}

/// From YAML, whose reader tells places.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        let place = Place { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Self { content: spanned.value, place })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsJson)
    }
}

struct AsJson;

impl<'de> Visitor<'de> for AsJson {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON has: a text, a number, true, false, null, a list or a map")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("JSON has no infinity, and no NaN"))?;
        Ok(Content::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(serde_json::Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(serde_json::Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, node)) = entries.next_entry::<String, Node>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("{key} is there twice")));
            }
            map.insert(key, node);
        }
        Ok(Content::Map(map))
    }
}
