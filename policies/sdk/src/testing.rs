//! What tests of a policy ask about. Not there on WebAssembly.

use crate::{Container, ContainerKind, Image, Pod, PullPolicy, stand_in};

/// A pod in this namespace; its functions that begin with `with` say what else is in it.
pub fn pod(namespace: &str) -> Pod {
    Pod::in_namespace(namespace)
}

/// A regular container of this name, whose image is pulled where the node does not have it.
pub fn container(name: &str) -> Container {
    Container { name: name.to_owned(), kind: ContainerKind::Regular, pull_policy: PullPolicy::IfNotPresent }
}

/// The image of a reference that is fully qualified, as policies get them: `docker.io/library/nginx:1.27`.
///
/// # Panics
/// Where the registry, the repository or both tag and digest are missing.
#[expect(clippy::panic, reason = "the test that asks is wrong")]
pub fn image(reference: &str) -> Image {
    read(reference)
        .unwrap_or_else(|| panic!("{reference:?} is not fully qualified; write it like docker.io/library/nginx:1.27"))
}

/// What [`host::own_registries`](crate::host::own_registries) answers in this test.
pub fn set_own_registries(registries: &[&str]) {
    stand_in::set_own_registries(registries.iter().map(|&registry| registry.to_owned()).collect());
}

fn read(reference: &str) -> Option<Image> {
    let (registry, rest) = reference.split_once('/')?;
    let (rest, digest) = rest.split_once('@').map_or((rest, None), |(rest, digest)| (rest, Some(digest.to_owned())));
    let (repository, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag.to_owned())));
    let is_host = registry.contains(['.', ':']) || registry == "localhost";
    let is_whole = is_host && !repository.is_empty() && (tag.is_some() || digest.is_some());
    is_whole.then(|| Image { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
}
