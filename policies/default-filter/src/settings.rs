//! The settings: `{"registries": ["registry.internal:5000"], "nodeRegistries": ["*.azurecr.io"]}`.
//!
//! They are read by hand: `serde_json` would make the component three times as large, and every start of the webhook
//! compile it, for lists of words in which nothing can be escaped.

use std::ops::Range;

use cache_registry_policy_sdk::Image;

use crate::pattern;

/// What settings say. Every request reads them in a guest of its own, so they are only taken apart; whether their words
/// are good is [checked](Self::check) once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registries {
    text: String,
    /// Where in the text the words of each key's list are.
    lists: [Vec<Range<usize>>; 2],
}

const KEYS: [&str; 2] = ["registries", "nodeRegistries"];

impl Registries {
    /// What is wrong is said in words for the person who wrote them.
    pub(crate) fn read(settings: &str) -> Result<Self, String> {
        if matches!(settings.trim(), "" | "{}") {
            return Ok(Self::default());
        }
        let lists = lists(settings).ok_or_else(|| {
            "the settings are lists of registries: {\"registries\": [\"registry.example:5000\"], \
             \"nodeRegistries\": [\"*.azurecr.io\"]}"
                .to_owned()
        })?;
        Ok(Self { text: settings.to_owned(), lists })
    }

    /// What is wrong with a word, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.left_alone().try_for_each(expect_host)?;
        self.of_nodes().try_for_each(expect_pattern)
    }

    /// Whether images of this host are left alone.
    pub(crate) fn leave_alone(&self, host: &str) -> bool {
        self.left_alone().any(|named| named.eq_ignore_ascii_case(host))
    }

    /// The pattern that says that nodes pull the image with credentials of their own, where one does.
    pub(crate) fn pulled_by_nodes(&self, image: &Image) -> Option<&str> {
        self.of_nodes().find(|pattern| pattern::means(pattern, image))
    }

    fn left_alone(&self) -> impl Iterator<Item = &str> {
        self.words(0)
    }

    fn of_nodes(&self) -> impl Iterator<Item = &str> {
        self.words(1)
    }

    fn words(&self, key: usize) -> impl Iterator<Item = &str> {
        self.lists[key].iter().map(|word| &self.text[word.clone()])
    }
}

/// What was between the quotes before.
enum Before {
    Nothing,
    Key(usize),
    Word(usize),
}

/// Where the words of each key's list are, provided that the rest is as it should be.
fn lists(settings: &str) -> Option<[Vec<Range<usize>>; 2]> {
    let (mut lists, mut seen) = ([Vec::new(), Vec::new()], [false; 2]);
    let (mut before, mut end) = (Before::Nothing, 0);
    let mut quotes = settings.match_indices('"').map(|(quote, _)| quote);
    while let Some(open) = quotes.next() {
        let close = quotes.next()?;
        let (between, word) = (&settings[end..open], open + 1..close);
        end = close + 1;
        let in_list_of = match before {
            Before::Nothing if reads(between, "{") => None,
            Before::Key(_) if reads(between, ":[],") => None,
            Before::Word(_) if reads(between, "],") => None,
            Before::Key(key) if reads(between, ":[") => Some(key),
            Before::Word(key) if reads(between, ",") => Some(key),
            _ => return None,
        };
        if let Some(key) = in_list_of {
            lists[key].push(word);
            before = Before::Word(key);
        } else {
            let key = KEYS.iter().position(|key| *key == &settings[word.clone()])?;
            if std::mem::replace(&mut seen[key], true) {
                return None;
            }
            before = Before::Key(key);
        }
    }
    let is_whole = match before {
        Before::Nothing => false,
        Before::Key(_) => reads(&settings[end..], ":[]}"),
        Before::Word(_) => reads(&settings[end..], "]}"),
    };
    is_whole.then_some(lists)
}

/// Whether it is these tokens, with any white space.
fn reads(text: &str, tokens: &str) -> bool {
    text.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(tokens.bytes())
}

fn expect_host(host: &str) -> Result<(), String> {
    let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if !host.is_empty() && host.chars().all(is_of_a_host) {
        Ok(())
    } else {
        Err(["\"", host, "\" is not a registry host; write it as it stands in image references: registry.example:5000"]
            .concat())
    }
}

fn expect_pattern(text: &str) -> Result<(), String> {
    if pattern::is_pattern(text) {
        return Ok(());
    }
    Err([
        "\"",
        text,
        "\" is not a registry as a kubelet's matchImages has them: a host, with * for any part between dots, and where \
         it matters a port and the beginning of a path, like *.dkr.ecr.*.amazonaws.com",
    ]
    .concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", &[])]
    #[case("\n", &[])]
    #[case("{}", &[])]
    #[case(r#"{"registries":[]}"#, &[])]
    #[case(r#"{"registries":["reg.internal:5000"]}"#, &["reg.internal:5000"])]
    #[case(" {\n \"registries\" : [ \"A.example\" ,\n \"b.example\" ] }\n", &["A.example", "b.example"])]
    fn hosts_are_good_settings(#[case] settings: &str, #[case] hosts: &[&str]) {
        let registries = Registries::read(settings).unwrap();
        assert_eq!(registries.check(), Ok(()));
        assert_eq!(registries.left_alone().collect::<Vec<_>>(), hosts);
        assert_eq!(registries.of_nodes().next(), None);
    }

    #[rstest]
    #[case(r#"{"nodeRegistries":["*.azurecr.io","gcr.io/Mine"],"registries":["a.example"]}"#)]
    #[case(r#"{ "registries": ["a.example"] , "nodeRegistries": ["*.azurecr.io", "gcr.io/Mine"] }"#)]
    fn both_lists_are_read_in_any_order(#[case] settings: &str) {
        let registries = Registries::read(settings).unwrap();
        assert_eq!(registries.check(), Ok(()));
        assert_eq!(registries.left_alone().collect::<Vec<_>>(), ["a.example"]);
        assert_eq!(registries.of_nodes().collect::<Vec<_>>(), ["*.azurecr.io", "gcr.io/Mine"]);
    }

    #[rstest]
    #[case("http://reg.internal")]
    #[case("")]
    #[case("reg.internal/team")]
    #[case("*.internal")]
    #[case("\\u0061.example")]
    fn what_is_no_host_is_refused_and_quoted(#[case] host: &str) {
        let registries = Registries::read(&format!(r#"{{"registries": ["a.example", "{host}"]}}"#)).unwrap();
        let error = registries.check().unwrap_err();
        assert!(error.starts_with(&format!("\"{host}\" is not a registry host")), "{error}");
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_quoted() {
        let registries = Registries::read(r#"{"nodeRegistries": ["gcr.io", "https://gcr.io"]}"#).unwrap();
        let error = registries.check().unwrap_err();
        assert!(error.starts_with("\"https://gcr.io\" is not a registry as a kubelet's matchImages"), "{error}");
    }

    #[rstest]
    #[case("null")]
    #[case("[]")]
    #[case("{")]
    #[case(r#"{"registry": ["a.example"]}"#)]
    #[case(r#"{"registries": "a.example"}"#)]
    #[case(r#"{"registries": [5000]}"#)]
    #[case(r#"{"registries": ["a.example",]}"#)]
    #[case(r#"{"registries": ["a.example" "b.example"]}"#)]
    #[case(r#"{"registries": ["a.example]}"#)]
    #[case(r#"{"registries": ["a.example"], "more": 1}"#)]
    #[case(r#"{"registries": ["a.example"],}"#)]
    #[case(r#"{"registries": ["a.example"], "registries": ["b.example"]}"#)]
    #[case(r#"{"registries": ["a.example"] "nodeRegistries": []}"#)]
    #[case(r#"{"registries": ["a.example"]} more"#)]
    #[case("registry.internal:5000")]
    fn anything_else_is_refused_with_what_was_expected(#[case] settings: &str) {
        let error = Registries::read(settings).unwrap_err();
        assert!(error.contains(r#"{"registries": ["registry.example:5000"], "nodeRegistries": ["#), "{error}");
    }
}
