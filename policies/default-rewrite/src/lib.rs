//! The built-in rewriter, last in the set: what is to be cached is fetched from where the pod asked for it, and nodes
//! pull it at their own address.
//!
//! There are no settings. [`rewritten`] decides, and is plain Rust on every target. Compiled to WebAssembly,
//! `component` puts it behind the contract in `wit/`.

#[cfg(target_family = "wasm")]
mod component;
mod glue;

pub use glue::cache_registry::policy::types::{Image, Rewritten};

/// The image, its own source; `node_address` gives the reference under which nodes pull a source, and its error is
/// handed on.
pub fn rewritten(
    image: &Image,
    node_address: impl FnOnce(&str) -> Result<String, String>,
) -> Result<Rewritten, String> {
    let source = reference(image);
    Ok(Rewritten { image: node_address(&source)?, source })
}

fn reference(image: &Image) -> String {
    let mut text = [&image.registry, "/", &image.repository].concat();
    for (separator, part) in [(":", &image.tag), ("@", &image.digest)] {
        if let Some(part) = part {
            text += separator;
            text += part;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case(Some("1.27"), None, "reg.example:5000/a/app:1.27".to_owned())]
    #[case(None, Some(DIGEST), format!("reg.example:5000/a/app@{DIGEST}"))]
    #[case(Some("1.27"), Some(DIGEST), format!("reg.example:5000/a/app:1.27@{DIGEST}"))]
    fn the_source_is_the_image_and_nodes_pull_at_their_address(
        #[case] tag: Option<&str>,
        #[case] digest: Option<&str>,
        #[case] source: String,
    ) {
        let (registry, repository) = ("reg.example:5000".to_owned(), "a/app".to_owned());
        let image = Image { registry, repository, tag: tag.map(Into::into), digest: digest.map(Into::into) };
        let answer = rewritten(&image, |source| Ok(format!("node of {source}")));
        assert_eq!(answer, Ok(Rewritten { image: format!("node of {source}"), source }));
    }

    #[test]
    fn what_the_host_says_against_it_is_handed_on() {
        let image = Image { registry: "r".to_owned(), repository: "a".to_owned(), tag: None, digest: None };
        assert_eq!(rewritten(&image, |source| Err(format!("no {source}"))), Err("no r/a".to_owned()));
    }
}
