//! Caches images of some registries only. See `docs/policies/only-registries.md`.

use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Verdict, export};
use serde::Deserialize;

/// The settings.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OnlyRegistries {
    /// Their hosts, as they stand in image references: `docker.io`, `reg.example:5000`.
    registries: Vec<String>,
}

impl Filter for OnlyRegistries {
    fn filter(&self, _: &Pod, _: &Container, image: &Image) -> Verdict {
        if self.registries.iter().any(|registry| registry.eq_ignore_ascii_case(&image.registry)) {
            // Whether it makes sense to cache it, the built-in filter knows.
            Verdict::Pass
        } else {
            Verdict::ignore(format!("images of {} are not cached", image.registry))
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.registries.is_empty() {
            return Err("name registries, or nothing is cached: {\"registries\": [\"docker.io\"]}".to_owned());
        }
        match self.registries.iter().find(|registry| registry.is_empty() || registry.contains('/')) {
            Some(wrong) => Err(format!("\"{wrong}\" is not the host of a registry; write it like docker.io")),
            None => Ok(()),
        }
    }
}

export!(filter: OnlyRegistries);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::{Settings, testing};
    use rstest::rstest;

    #[rstest]
    #[case("docker.io/library/nginx:1.27", true)]
    #[case("reg.example:5000/app:1", true)]
    #[case("reg.example/app:1", false)]
    #[case("ghcr.io/app:1", false)]
    fn other_registries_are_ignored(#[case] image: &str, #[case] named: bool) {
        let policy = OnlyRegistries::read(r#"{"registries": ["docker.io", "Reg.Example:5000"]}"#).unwrap();
        let image = testing::image(image);
        let verdict = policy.filter(&testing::pod("shop"), &testing::container("web"), &image);
        let ignored = Verdict::ignore(format!("images of {} are not cached", image.registry));
        assert_eq!(verdict, if named { Verdict::Pass } else { ignored });
    }

    #[rstest]
    #[case("", "name registries")]
    #[case(r#"{"registries": []}"#, "name registries")]
    #[case(r#"{"registries": ["docker.io/library"]}"#, "\"docker.io/library\" is not the host of a registry")]
    #[case(r#"{"registries": ["https://docker.io"]}"#, "\"https://docker.io\" is not the host of a registry")]
    #[case(r#"{"registries": ["docker.io", ""]}"#, "\"\" is not the host of a registry")]
    fn wrong_settings_are_refused_in_words(#[case] settings: &str, #[case] words: &str) {
        let error = OnlyRegistries::read(settings).unwrap().check().unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}
