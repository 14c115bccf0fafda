use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde_json::value::RawValue;

use crate::node::{Content, Node, Place};

/// What is wrong with a text of YAML or JSON, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Misread {
    /// In which of several documents, counted from 1.
    document: Option<usize>,
    place: Option<Place>,
    words: String,
}

impl Misread {
    /// `text` is the whole that `place` is in.
    pub(crate) fn new(text: &str, place: Option<Place>, words: impl Display) -> Self {
        let document = place.and_then(|place| document_at(text, place));
        Self { document, place, words: words.to_string() }
    }
}

impl Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}")?;
            if let Some(document) = self.document {
                write!(f, " (document {document})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.words)
    }
}

/// The documents of a text: JSON where it begins as nothing else does, else YAML.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, Misread> {
    // What editors for Windows begin a text with.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_json(text) { json(text) } else { yaml(text) }
}

/// A map of YAML may begin with a brace too, but then hardly anybody quotes the key.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    let in_braces = text.strip_prefix('{').map(str::trim_start);
    in_braces.is_some_and(|rest| rest.is_empty() || rest.starts_with(['"', '}'])) || text.starts_with('[')
}

fn yaml(text: &str) -> Result<Vec<Node>, Misread> {
    let documents = serde_saphyr::from_multiple(text);
    documents.map_err(|error| {
        // The default rendering shows a part of the text, over several lines.
        let error = error.without_snippet();
        let place = error.location().map(|place| Place { line: place.line(), column: place.column() });
        let words = error.to_string();
        let said_twice = place.map(|place| format!(" at {place}")).unwrap_or_default();
        Misread::new(text, place, words.strip_suffix(&said_twice).unwrap_or(&words))
    })
}

fn json(text: &str) -> Result<Vec<Node>, Misread> {
    let lines = Lines::of(text);
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let document = document.map_err(|error| {
            let place = Place { line: error.line() as u64, column: error.column() as u64 };
            Misread::new(text, Some(place), without_place(&error))
        })?;
        documents.push(node(&lines, document, 0)?);
    }
    Ok(documents)
}

/// Nobody nests deeper; the stack does not hold everything.
const DEEPEST: usize = 100;

/// A raw value is a part of the text, so its place is known.
fn node(lines: &Lines<'_>, raw: &RawValue, depth: usize) -> Result<Node, Misread> {
    let place = lines.place_of(raw.get());
    let misread = |words: String| Misread::new(lines.text, Some(place), words);
    let read = |error: serde_json::Error| misread(without_place(&error));
    if depth == DEEPEST {
        return Err(misread(format!("this is nested more than {DEEPEST} levels deep")));
    }
    let content = match raw.get().as_bytes() {
        [b'{', ..] => {
            let map: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(read)?;
            let nodes = map.into_iter().map(|(key, raw)| Ok((key, node(lines, raw, depth + 1)?)));
            Content::Map(nodes.collect::<Result<_, Misread>>()?)
        }
        [b'[', ..] => {
            let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(read)?;
            Content::List(list.into_iter().map(|raw| node(lines, raw, depth + 1)).collect::<Result<_, _>>()?)
        }
        _ => Content::Scalar(serde_json::from_str(raw.get()).map_err(read)?),
    };
    Ok(Node { content, place })
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(index, _)| index + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Where a part of the text begins.
    fn place_of(&self, part: &str) -> Place {
        let offset = part.as_ptr().addr() - self.text.as_ptr().addr();
        let line = self.starts.partition_point(|start| *start <= offset);
        let column = self.text[self.starts[line - 1]..offset].chars().count() + 1;
        Place { line: line as u64, column: column as u64 }
    }
}

/// What `serde_json` says, without the place in a text that nobody has seen.
pub(crate) fn without_place(error: &dyn Display) -> String {
    let words = error.to_string();
    words.split_once(" at line ").map_or(words.as_str(), |(words, _)| words).to_owned()
}

/// Which of the YAML documents has the place; `None` where there is one only.
fn document_at(text: &str, place: Place) -> Option<usize> {
    let says_something = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
    let (mut document, mut documents, mut in_one) = (1, 1, false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("---") {
            documents += usize::from(in_one);
            in_one = false;
        }
        in_one |= says_something(line.trim_start_matches("---"));
        if number <= place.line {
            document = documents;
        }
    }
    (documents > 1).then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn json_of(text: &str) -> Vec<String> {
        read(text).unwrap().iter().map(|node| node.to_json().json).collect()
    }

    #[rstest]
    #[case::yaml("a: 1\nb: [x, true, null, 1.5]\n", &[r#"{"a":1,"b":["x",true,null,1.5]}"#])]
    #[case::documents("---\na: 1\n---\n# nothing\n---\na: 2\n...\n", &[r#"{"a":1}"#, r#"{"a":2}"#])]
    #[case::json("{\t\"a\": \"\\ud83d\\ude00\", \"b\": [{}]}\n{\"a\": 2}", &["{\"a\":\"😀\",\"b\":[{}]}", r#"{"a":2}"#])]
    #[case::aliases("a: &x {b: 1}\nc: *x\n", &[r#"{"a":{"b":1},"c":{"b":1}}"#])]
    #[case::byte_order_mark("\u{feff}a: x\n", &[r#"{"a":"x"}"#])]
    #[case::like_json("{a: 1}\n---\n{a: 2}\n", &[r#"{"a":1}"#, r#"{"a":2}"#])]
    #[case::nothing("# nothing\n", &[])]
    fn yaml_and_json_are_read_alike(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(json_of(text), expected);
    }

    #[rstest]
    #[case::yaml("spec:\n  containers:\n  - image: nginx\n")]
    #[case::json("{\"spec\":\n {\"é\": 1,\"containers\":\n[\n  {\n   \"image\":   \"nginx\"}]}}")]
    #[case::later_document("a: b\n---\nspec:\n  containers:\n  - image: nginx\n")]
    fn a_node_knows_its_place_and_its_json_does(#[case] text: &str) {
        let documents = read(text).unwrap();
        let node = documents.last().unwrap();
        let Content::List(list) = &node.find(&["spec", "containers"]).unwrap().content else { panic!("no list") };
        let image = list[0].get("image").unwrap().place;
        let line = text.lines().nth(usize::try_from(image.line).unwrap() - 1).unwrap();
        assert!(line.chars().skip(usize::try_from(image.column).unwrap() - 1).collect::<String>().contains("nginx"));
        let written = node.to_json();
        let column = written.json.find("nginx").unwrap() + 1;
        assert_eq!(written.place_of(column), Some(image));
    }

    #[rstest]
    #[case::not_closed("a: [1,\nb: 2\n", "line 1, column 4: unclosed")]
    #[case::twice("a: 1\na: 2\n", "line 2, column 1")]
    #[case::later_document("a: 1\n---\nb: [\n", "(document 2)")]
    #[case::json("{\"a\": 1,\n \"b\": }", "line 2, column 7: expected value")]
    #[case::json_cut_off("{\"a\": 1,", "line 1, column 8: EOF")]
    #[case::tab("a:\n\t- b: 1\n", "line 2")]
    fn a_mistake_is_told_with_its_place(#[case] text: &str, #[case] expected: &str) {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep).unwrap_err().to_string().contains("levels deep"));
        assert!(read(&format!("a: {deep}")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[-\\[\\]{}:,\"'a1 \\n\\t#&*|>]{0,60}|\\PC{0,40}") {
            let _ = read(&text);
        }
    }
}
