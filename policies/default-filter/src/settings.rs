//! The settings: `{"registries": ["registry.internal:5000"], "nodeRegistries": ["*.azurecr.io"]}`.
//!
//! They are read by hand: `serde_json` would make the component three times as large, and every start of the webhook
//! compile it, for lists of words in which nothing can be escaped.

use cache_registry_policy_sdk::Image;

use crate::pattern::Pattern;

/// What settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registries {
    /// Hosts whose images are left alone, in lower case.
    pub(crate) left_alone: Vec<String>,
    /// From where nodes pull with credentials of their own.
    pub(crate) of_nodes: Vec<Pattern>,
}

impl Registries {
    /// The pattern that says that nodes pull the image with credentials of their own, where one does.
    pub(crate) fn of_nodes(&self, image: &Image) -> Option<&str> {
        let asked = image.into();
        self.of_nodes.iter().find(|pattern| pattern.means(asked)).map(Pattern::as_str)
    }

    /// What is wrong is said in words for the person who wrote them.
    pub(crate) fn read(settings: &str) -> Result<Self, String> {
        let settings = settings.trim();
        if matches!(settings, "" | "{}") {
            return Ok(Self::default());
        }
        let [hosts, patterns] = lists(settings).ok_or_else(|| {
            "the settings are lists of registries: {\"registries\": [\"registry.example:5000\"], \
             \"nodeRegistries\": [\"*.azurecr.io\"]}"
                .to_owned()
        })?;
        Ok(Self {
            left_alone: hosts.into_iter().map(host).collect::<Result<_, _>>()?,
            of_nodes: patterns.into_iter().map(pattern).collect::<Result<_, _>>()?,
        })
    }
}

const KEYS: [&str; 2] = ["registries", "nodeRegistries"];

/// What stands between the quotes of the list of each key, provided that the rest is as it should be.
fn lists(settings: &str) -> Option<[Vec<&str>; 2]> {
    let mut lists = [None, None];
    let mut rest = after(settings, "{")?;
    loop {
        let (key, behind) = after(rest, "\"")?.split_once('"')?;
        let place = KEYS.iter().position(|known| *known == key)?;
        let (list, behind) = list(after(behind, ":")?)?;
        if lists[place].replace(list).is_some() {
            return None;
        }
        let Some(next) = after(behind, ",") else {
            return after(behind, "}")?.is_empty().then(|| lists.map(Option::unwrap_or_default));
        };
        rest = next;
    }
}

/// The words of a list, and what is behind it.
fn list(text: &str) -> Option<(Vec<&str>, &str)> {
    let mut rest = after(text, "[")?;
    let mut words = Vec::new();
    while let Some(quoted) = after(rest, "\"") {
        let (word, behind) = quoted.split_once('"')?;
        words.push(word);
        match after(behind, ",") {
            Some(next) if next.starts_with('"') => rest = next,
            Some(_) => return None,
            None => {
                rest = behind;
                break;
            }
        }
    }
    Some((words, after(rest, "]")?))
}

/// The text behind a token, and behind the white space around it.
fn after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    text.trim_start().strip_prefix(token).map(str::trim_start)
}

fn host(host: &str) -> Result<String, String> {
    let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if !host.is_empty() && host.chars().all(is_of_a_host) {
        Ok(host.to_ascii_lowercase())
    } else {
        Err(["\"", host, "\" is not a registry host; write it as it stands in image references: registry.example:5000"]
            .concat())
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::read(text).ok_or_else(|| {
        [
            "\"",
            text,
            "\" is not a registry as a kubelet's matchImages has them: a host, with * for any part between dots, and \
             where it matters a port and the beginning of a path, like *.dkr.ecr.*.amazonaws.com",
        ]
        .concat()
    })
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
    #[case(" {\n \"registries\" : [ \"A.example\" ,\n \"b.example\" ] }\n", &["a.example", "b.example"])]
    fn hosts_are_good_settings(#[case] settings: &str, #[case] hosts: &[&str]) {
        let left_alone = hosts.iter().map(|&host| host.to_owned()).collect();
        assert_eq!(Registries::read(settings), Ok(Registries { left_alone, of_nodes: Vec::new() }));
    }

    #[rstest]
    #[case(r#"{"nodeRegistries":["*.azurecr.io","gcr.io/Mine"],"registries":["a.example"]}"#)]
    #[case(r#"{ "registries": ["a.example"] , "nodeRegistries": ["*.AzureCR.io", "gcr.io/mine"] }"#)]
    fn both_lists_are_read_in_any_order(#[case] settings: &str) {
        let Registries { left_alone, of_nodes } = Registries::read(settings).unwrap();
        assert_eq!(left_alone, ["a.example"]);
        assert_eq!(of_nodes.iter().map(Pattern::as_str).collect::<Vec<_>>(), ["*.azurecr.io", "gcr.io/mine"]);
    }

    #[rstest]
    #[case("http://reg.internal")]
    #[case("")]
    #[case("reg.internal/team")]
    #[case("*.internal")]
    #[case("\\u0061.example")]
    fn what_is_no_host_is_refused_and_quoted(#[case] host: &str) {
        let error = Registries::read(&format!(r#"{{"registries": ["a.example", "{host}"]}}"#)).unwrap_err();
        assert!(error.starts_with(&format!("\"{host}\" is not a registry host")), "{error}");
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_quoted() {
        let error = Registries::read(r#"{"nodeRegistries": ["gcr.io", "https://gcr.io"]}"#).unwrap_err();
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
