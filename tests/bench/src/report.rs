use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::row::{Row, table};

const BEGIN: &str = "<!-- make bench: begin -->";
const END: &str = "<!-- make bench: end -->";

/// A heading and its rows.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// The sections as Markdown.
pub(crate) fn render(sections: &[Section], machine: &str, date: &str) -> String {
    let tables = sections.iter().map(|section| format!("\n### {}\n\n{}", section.title, table(&section.rows)));
    format!("`make bench`, {date}, on: {machine}\n{}", tables.collect::<String>())
}

/// Writes the rows of all sections as JSON.
pub(crate) fn write_json(sections: &[Section], path: &Path) -> Result<()> {
    let rows: Vec<_> = sections.iter().flat_map(|section| &section.rows).collect();
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Puts the text between the markers of a document, in place of what was there.
pub(crate) fn write_between_markers(text: &str, path: &Path) -> Result<()> {
    let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let replaced = between_markers(&document, text)
        .with_context(|| format!("{} has no lines {BEGIN} and {END}", path.display()))?;
    fs::write(path, replaced).with_context(|| format!("cannot write {}", path.display()))
}

fn between_markers(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let document = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nthe end\n");
        let expected = format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nthe end\n");
        let written = between_markers(&document, "new\n").unwrap();
        assert_eq!(written, expected);
        assert_eq!(between_markers(&written, "new").unwrap(), expected);
        assert_eq!(between_markers("# Title\n", "new"), None);
    }
}
