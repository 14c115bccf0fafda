//! The built-in rewriter, last in the set: what is to be cached is fetched from where the pod asked for it, and nodes
//! pull it at their own address.
//!
//! There are no settings. [`rewritten`] decides, and is plain Rust on every target.

use cache_registry_policy_sdk::{Container, Pod, Rewrite, Settings, export, host};

pub use cache_registry_policy_sdk::{Image, Rewritten};

/// The image, its own source; `node_address` gives the reference under which nodes pull a source, and its error is
/// handed on.
pub fn rewritten(
    image: &Image,
    node_address: impl FnOnce(&str) -> Result<String, String>,
) -> Result<Rewritten, String> {
    let source = image.to_string();
    Ok(Rewritten { image: node_address(&source)?, source })
}

struct DefaultRewrite;

impl Settings for DefaultRewrite {
    fn read(settings: &str) -> Result<Self, String> {
        if matches!(settings.trim(), "" | "{}") { Ok(Self) } else { Err("this policy has no settings".to_owned()) }
    }
}

impl Rewrite for DefaultRewrite {
    fn rewrite(&self, _: &Pod, _: &Container, image: &Image) -> Result<Option<Rewritten>, String> {
        rewritten(image, host::node_address).map(Some)
    }
}

export!(rewrite: DefaultRewrite);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::testing;
    use rstest::rstest;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("reg.example:5000/a/app:1.27".to_owned())]
    #[case(format!("reg.example:5000/a/app@{DIGEST}"))]
    #[case(format!("reg.example:5000/a/app:1.27@{DIGEST}"))]
    fn the_source_is_the_image_and_nodes_pull_at_their_address(#[case] source: String) {
        let answer =
            DefaultRewrite.rewrite(&testing::pod("shop"), &testing::container("web"), &testing::image(&source));
        let image = source.replace("reg.example:5000/", "localhost:7439/reg.example_5000/");
        assert_eq!(answer, Ok(Some(Rewritten { image, source })));
    }

    #[test]
    fn what_the_host_says_against_it_is_handed_on() {
        let image = testing::image("reg.example/a:1");
        assert_eq!(rewritten(&image, |source| Err(format!("no {source}"))), Err("no reg.example/a:1".to_owned()));
    }

    #[test]
    fn settings_are_refused() {
        assert!(DefaultRewrite::read("").is_ok() && DefaultRewrite::read("{}").is_ok());
        assert_eq!(
            DefaultRewrite::read(r#"{"mirror": "a.example"}"#).err(),
            Some("this policy has no settings".to_owned())
        );
    }
}
