//! `values.yaml` with its comments.

use std::fmt::Write as _;

use serde_json::Value;

use crate::at;

/// A key of `values.yaml` that has a comment above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commented {
    /// Its path, the keys joined by dots.
    pub path: String,
    /// The comment, in one line.
    pub comment: String,
}

/// What is the default of a value that is too long for a table.
const LONG: usize = 60;

/// The commented keys, in their order. Each comment stands directly above its key.
pub fn commented(yaml: &str) -> Vec<Commented> {
    let mut found = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    // The keys that lead to this line, with their indentations.
    let mut path: Vec<(usize, &str)> = Vec::new();
    for line in yaml.lines() {
        let content = line.trim_start();
        if let Some(text) = content.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        if let Some((key, _)) = content.split_once(':').filter(|(key, _)| !key.starts_with('-')) {
            let indentation = line.len() - content.len();
            path.retain(|(outer, _)| *outer < indentation);
            path.push((indentation, key));
            if !comment.is_empty() {
                let path: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
                found.push(Commented { path: path.join("."), comment: comment.join(" ") });
            }
        }
        comment.clear();
    }
    found
}

/// The paths of all values that are no mappings with something in it.
pub fn leaves(values: &Value) -> Vec<String> {
    fn walk(path: &str, value: &Value, found: &mut Vec<String>) {
        match value.as_object().filter(|map| !map.is_empty()) {
            Some(map) => map.iter().for_each(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, value, found);
            }),
            None => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk("", values, &mut found);
    found
}

/// The table of the README, in Markdown. A key whose comment is about all that is below it gets a row without a default.
pub fn table(yaml: &str, values: &Value) -> String {
    let commented = commented(yaml);
    let mut table = "| key | default | meaning |\n|---|---|---|\n".to_owned();
    for Commented { path, comment } in &commented {
        let section = format!("{path}.");
        let default = at(values, path).to_string();
        let default = if commented.iter().any(|other| other.path.starts_with(&section)) {
            String::new()
        } else if default.len() > LONG {
            "see [values.yaml](values.yaml)".to_owned()
        } else {
            format!("`{default}`")
        };
        let comment = comment.trim_end_matches('.').replace('|', "\\|");
        let _ = writeln!(table, "| `{path}` | {default} | {comment} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "# Of the file, and of no key.\n\n# About a.\na:\n  # About\n  # b\n  b: 1\n  c: [x]\n# Lists\nd:\n  - e: 1\n\nf: {}\n";

    fn values() -> Value {
        serde_saphyr::from_str(YAML).unwrap()
    }

    #[test]
    fn a_comment_belongs_to_the_key_below_it() {
        let found: Vec<_> = commented(YAML).into_iter().map(|found| (found.path, found.comment)).collect();
        let expected = [("a", "About a."), ("a.b", "About b"), ("d", "Lists")];
        assert_eq!(found, expected.map(|(path, comment)| (path.to_owned(), comment.to_owned())));
    }

    #[test]
    fn leaves_are_what_can_be_set() {
        assert_eq!(leaves(&values()), ["a.b", "a.c", "d", "f"]);
    }

    #[test]
    fn a_section_has_no_default() {
        let table = table(YAML, &values());
        assert!(table.contains("| `a` |  | About a |\n"), "{table}");
        assert!(table.contains("| `a.b` | `1` | About b |\n"), "{table}");
    }
}
