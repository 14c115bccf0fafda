use super::*;
use cache_registry_core::{Hasher, PlatformChoice};
use rstest::rstest;

fn digest(name: &str) -> Digest {
    Hasher::sha256(name.as_bytes())
}

fn part(name: &str) -> Part {
    let manifest = Manifest { media_type: String::new(), digest: digest(name), bytes: bytes::Bytes::new() };
    Part { manifest, is_there: false }
}

/// `name`, `name=platform` or `name~what it is about`.
fn child(text: &str) -> Child {
    let (name, platform) = text.split_once('=').map_or((text, None), |(name, platform)| (name, Some(platform)));
    let (name, about) = name.split_once('~').map_or((name, None), |(name, about)| (name, Some(digest(about))));
    let platform = platform.map(|platform| platform.parse().unwrap());
    Child { digest: digest(name), platform, about, is_index: false }
}

fn index(name: &str, children: &[&str]) -> (Digest, (Part, Contents)) {
    let children = children.iter().map(|text| child(text)).collect();
    (digest(name), (part(name), Contents::Index(children)))
}

fn image(name: &str, config: &str, layers: &[(&str, bool)]) -> (Digest, (Part, Contents)) {
    let blob = |name: &str, is_foreign| Blob { digest: digest(name), size: 1, is_foreign };
    let layers = layers.iter().map(|(name, is_foreign)| blob(name, *is_foreign)).collect();
    (digest(name), (part(name), Contents::Image { config: blob(config, false), layers }))
}

#[test]
fn children_come_before_every_index_that_names_them() {
    let parts = [
        index("root", &["a", "inner", "b"]),
        index("inner", &["a", "c"]),
        image("a", "ca", &[]),
        image("b", "cb", &[]),
        image("c", "cc", &[]),
    ];
    let plan = ordered(&digest("root"), parts.into());
    let order: Vec<_> = plan.manifests.iter().map(|part| part.manifest.digest.clone()).collect();
    let place = |name: &str| order.iter().position(|one| *one == digest(name)).unwrap();
    assert_eq!(order.len(), 5);
    assert!(place("a") < place("inner") && place("c") < place("inner") && place("inner") < place("root"));
    assert_eq!((place("root"), plan.left_out), (4, HashSet::new()));
}

#[test]
fn a_blob_of_many_manifests_is_one() {
    let parts = [
        index("root", &["a=linux/amd64", "b=linux/amd64", "a=linux/amd64"]),
        image("a", "config", &[("layer", true), ("layer", true)]),
        image("b", "config", &[("layer", false), ("other", true)]),
    ];
    let plan = ordered(&digest("root"), parts.into());
    let blobs: HashSet<_> = plan.blobs.iter().map(|blob| (blob.digest.clone(), blob.is_foreign)).collect();
    let expected = [(digest("config"), false), (digest("layer"), false), (digest("other"), true)];
    assert_eq!(blobs, HashSet::from(expected));
    assert_eq!((plan.blobs.len(), plan.offered.len()), (3, 2));
    assert_eq!(plan.only_config, None);
}

#[test]
fn what_was_not_fetched_is_left_out_with_what_it_consists_of() {
    let parts = [index("root", &["a=linux/amd64", "b=linux/arm64", "about b~b"]), image("a", "ca", &[("la", false)])];
    let plan = ordered(&digest("root"), parts.into());
    let names = |digests: &[&str]| digests.iter().map(|name| digest(name)).collect::<Vec<_>>();
    let manifests: Vec<_> = plan.manifests.iter().map(|part| part.manifest.digest.clone()).collect();
    assert_eq!(manifests, names(&["a", "root"]));
    assert_eq!(plan.blobs.iter().map(|blob| blob.digest.clone()).collect::<Vec<_>>(), names(&["ca", "la"]));
    assert_eq!(plan.left_out, names(&["b", "about b"]).into_iter().collect());
    let offered: Vec<_> =
        plan.offered.iter().map(|(digest, platform)| (digest.clone(), platform.to_string())).collect();
    assert_eq!(offered, [(digest("a"), "linux/amd64".to_owned()), (digest("b"), "linux/arm64".to_owned())]);
}

const WITH_ATTESTATIONS: &[&str] = &["a=linux/amd64", "b=linux/arm64", "about a~a", "about b~b"];

#[rstest]
#[case::all("all", WITH_ATTESTATIONS, WITH_ATTESTATIONS)]
#[case::an_attestation_goes_with_its_image("linux/arm64", WITH_ATTESTATIONS, &["b=linux/arm64", "about b~b"])]
#[case::of_no_platform("linux/arm64", &["a=linux/amd64", "b=linux/arm64", "c"], &["b=linux/arm64", "c"])]
#[case::about_something_else("linux/arm64", &["b=linux/arm64", "c~d"], &["b=linux/arm64", "c~d"])]
#[case::nothing_but_attestations("linux/arm64", &["c~d", "e"], &["c~d", "e"])]
#[case::nothing_that_is_wanted("linux/s390x", WITH_ATTESTATIONS, WITH_ATTESTATIONS)]
// A node of Windows takes the one of its build, which no label of ours tells.
#[case::each_build_of_windows("windows/amd64", &["a=windows/amd64", "b=windows/amd64", "c=linux/amd64"], &["a=windows/amd64", "b=windows/amd64"])]
// One manifest under two platforms is wanted if it is for one of them.
#[case::one_for_two("linux/arm64", &["a=linux/amd64", "a=linux/arm64", "s~a"], &["a=linux/amd64", "a=linux/arm64", "s~a"])]
fn of_an_index_is_chosen_what_is_wanted_and_what_belongs_to_it(
    #[case] wanted: &str,
    #[case] children: &[&str],
    #[case] expected: &[&str],
) {
    let Ok(PlatformChoice::Fixed(wanted)) = wanted.parse() else { panic!("{wanted}") };
    let children: Vec<Child> = children.iter().map(|text| child(text)).collect();
    let chosen: Vec<Child> = chosen(&children, &wanted).cloned().collect();
    assert_eq!(chosen, expected.iter().map(|text| child(text)).collect::<Vec<_>>());
}
