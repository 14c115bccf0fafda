//! Sends registries to mirrors: the cache is filled from the mirror, and nodes pull from the cache. See
//! `docs/policies/mirror.md`.

use std::collections::BTreeMap;

use cache_registry_policy_sdk::{Container, Image, Pod, Rewrite, Rewritten, export, host};
use serde::Deserialize;

/// The settings.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    /// Where each registry's images are found: `docker.io` at `mirror.example/dockerhub`.
    mirrors: BTreeMap<String, String>,
}

impl Rewrite for Mirror {
    fn rewrite(&self, _: &Pod, _: &Container, image: &Image) -> Result<Option<Rewritten>, String> {
        let Some(mirror) = self.mirrors.get(&image.registry) else { return Ok(None) };
        // The source is what is at the mirror. What nodes pull follows from it: at any other address they would ask
        // the cache for what it does not keep.
        Rewritten::cached_from(at(mirror, image)).map(Some)
    }

    fn check(&self) -> Result<(), String> {
        self.mirrors.iter().try_for_each(|(registry, mirror)| is_right(registry, mirror))
    }
}

/// The reference of an image at a mirror, which is a host and a path, or a host alone.
fn at(mirror: &str, image: &Image) -> String {
    let (registry, path) = mirror.split_once('/').unwrap_or((mirror, ""));
    let repository = if path.is_empty() { image.repository.clone() } else { format!("{path}/{}", image.repository) };
    Image { registry: registry.to_owned(), repository, ..image.clone() }.to_string()
}

fn is_right(registry: &str, mirror: &str) -> Result<(), String> {
    let is_host = |text: &str| text.contains(['.', ':']) && !text.contains('/') && text == text.to_ascii_lowercase();
    if !is_host(registry) {
        return Err(format!("\"{registry}\" is not the host of a registry; write it like docker.io, in lower case"));
    }
    let probe = Image { registry: String::new(), repository: "a".to_owned(), tag: Some("1".to_owned()), digest: None };
    let (mirror_host, _) = mirror.split_once('/').unwrap_or((mirror, ""));
    if !is_host(mirror_host) || host::node_address(&at(mirror, &probe)).is_err() {
        return Err(format!("\"{mirror}\" is not a mirror of {registry}; write it like mirror.example/dockerhub"));
    }
    if mirror_host == host::node_registry() {
        return Err(format!("the mirror of {registry} is the nodes' own cache, which would be filled from itself"));
    }
    Ok(())
}

export!(rewrite: Mirror);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::{Settings, testing};
    use rstest::rstest;

    const SETTINGS: &str = r#"{"mirrors": {"docker.io": "mirror.example/dockerhub", "quay.io": "quay.example:5000"}}"#;

    fn rewritten(image: &str) -> Option<Rewritten> {
        let policy = Mirror::read(SETTINGS).unwrap();
        policy.rewrite(&testing::pod("shop"), &testing::container("web"), &testing::image(image)).unwrap()
    }

    #[rstest]
    #[case("docker.io/library/nginx:1.27", "mirror.example/dockerhub/library/nginx:1.27")]
    #[case("docker.io/a/b@sha256:0123", "mirror.example/dockerhub/a/b@sha256:0123")]
    #[case("quay.io/a/b:1@sha256:0123", "quay.example:5000/a/b:1@sha256:0123")]
    fn the_cache_is_filled_from_the_mirror_and_nodes_pull_from_the_cache(#[case] image: &str, #[case] source: &str) {
        let Rewritten { image, source: from } = rewritten(image).unwrap();
        assert_eq!(from, source);
        assert_eq!(image, host::node_address(source).unwrap());
    }

    #[test]
    fn what_has_no_mirror_is_left_to_others() {
        assert_eq!(rewritten("ghcr.io/a/b:1"), None);
    }

    #[rstest]
    #[case("")]
    #[case(SETTINGS)]
    fn these_settings_are_right(#[case] settings: &str) {
        assert_eq!(Mirror::read(settings).unwrap().check(), Ok(()));
    }

    #[rstest]
    #[case("docker", "mirror.example", "\"docker\" is not the host of a registry")]
    #[case("docker.io/library", "mirror.example", "\"docker.io/library\" is not the host of a registry")]
    #[case("Docker.io", "mirror.example", "\"Docker.io\" is not the host of a registry")]
    #[case("docker.io", "mirror/dockerhub", "\"mirror/dockerhub\" is not a mirror of docker.io")]
    #[case("docker.io", "https://mirror.example", "\"https://mirror.example\" is not a mirror of docker.io")]
    #[case("docker.io", "", "\"\" is not a mirror of docker.io")]
    #[case("docker.io", "localhost:7439/docker.io", "the mirror of docker.io is the nodes' own cache")]
    fn wrong_settings_are_refused_in_words(#[case] registry: &str, #[case] mirror: &str, #[case] words: &str) {
        let error =
            Mirror::read(&format!(r#"{{"mirrors": {{"{registry}": "{mirror}"}}}}"#)).unwrap().check().unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}
