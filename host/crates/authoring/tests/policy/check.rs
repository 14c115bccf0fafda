use cache_registry_guests::{Answer, component, filter_answering};
use rstest::rstest;

use crate::{Desk, Ended};

/// Without the time that it took.
fn timeless(out: &str) -> String {
    let timeless =
        |line: &str| if line.starts_with("compiled") { "compiled   …".to_owned() } else { line.to_owned() };
    out.lines().map(timeless).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_policy_that_the_host_takes_is_described() {
    let desk = Desk::with_policy(filter_answering(&Answer::Pass));
    insta::assert_snapshot!(timeless(&desk.policy("check @mine.wasm").await.well()), @r#"
    policy     mine.wasm
    digest     sha256:9c627e41c929651917a8aa7fcbe9f79e8d40505d8b54ed416a676e42a3083523
    size       3924 bytes
               fits into a ConfigMap, which has 5370 bytes of YAML
    exports    cache-registry:policy/filter@0.1.0
    imports    cache-registry:policy/host@0.1.0
               cache-registry:policy/types@0.1.0
    compiled   …
    decides    which images are cached
    settings   none
    result     the host takes it
    "#);
}

#[tokio::test]
async fn a_compressed_one_is_taken_as_the_host_takes_it() {
    let plain = filter_answering(&Answer::Pass);
    let desk = Desk::with_policy(gzip(&plain));
    let out = desk.policy("check @mine.wasm").await.well();
    assert!(out.contains(&format!("{} bytes", plain.len())) && out.contains("the host takes it"), "{out}");
}

#[rstest]
#[case::text(b"hello".to_vec(), "mine.wasm: this is not WebAssembly")]
#[case::empty(Vec::new(), "mine.wasm: the file is empty")]
#[case::core_module(b"\0asm\x01\0\0\0".to_vec(), "wasm-tools component new")]
#[case::nothing_to_ask(component(&[], ""), "exports neither")]
#[case::cut_off(filter_answering(&Answer::Pass)[..300].to_vec(), "cut off or damaged")]
#[case::damaged_gzip(gzip(b"hello")[..20].to_vec(), "mine.wasm: ")]
#[tokio::test]
async fn what_the_host_would_refuse_is_refused(#[case] wasm: Vec<u8>, #[case] expected: &str) {
    let said = Desk::with_policy(wasm).policy("check @mine.wasm").await.with(1);
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}

#[tokio::test]
async fn settings_are_checked_by_the_policy() {
    let desk = Desk::with_settable_policy();
    desk.write("good.yaml", "a: b\n");
    desk.write("wrong.yaml", "[not a map]\n");
    desk.write("bad.yaml", "a: [\n");
    assert!(desk.policy("check @mine.wasm --settings @good.yaml").await.well().contains("settings   accepted"));
    let Ended { status, out, said } = desk.policy("check @mine.wasm --settings @wrong.yaml").await;
    assert!(status == 1 && said.contains("refuses its settings") && out.contains("exports"), "{out}{said}");
    let said = desk.policy("check @mine.wasm --settings @bad.yaml").await.with(2);
    assert!(said.contains("bad.yaml: ") && said.contains("line 1"), "{said}");
}

#[rstest]
#[case::no_file("check @nowhere.wasm", "cannot read nowhere.wasm: No such file")]
#[case::folder("check @.", "is no file")]
#[case::no_settings("check @mine.wasm --settings @nowhere.yaml", "cannot read nowhere.yaml")]
#[case::nothing("check", "<POLICY>")]
#[case::no_time("check @mine.wasm --policy-time 50", "ms, s, m, h or d")]
#[tokio::test]
async fn what_cannot_be_looked_at_is_bad_input(#[case] line: &str, #[case] expected: &str) {
    let said = Desk::with_settable_policy().policy(line).await.with(2);
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}

#[tokio::test]
async fn one_that_no_configmap_holds_says_so() {
    let section = custom_section(1_500_000);
    let desk = Desk::with_policy([filter_answering(&Answer::Pass), section].concat());
    let out = desk.policy("check @mine.wasm").await.well();
    assert!(out.contains("too large for a ConfigMap; see cache-registry policy push"), "{out}");
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A part of a component that nobody reads, of bytes that do not compress.
pub(crate) fn custom_section(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let content: Vec<u8> = [1, b'x'].into_iter().chain(noise).take(length).collect();
    let mut section = vec![0];
    let mut left = content.len();
    while left >= 0x80 {
        section.push((left & 0x7f).to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    section.extend(&left.to_le_bytes()[..1]);
    section.extend(content);
    section
}
