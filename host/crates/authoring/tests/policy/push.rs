use cache_registry_guests::{Answer, filter_answering};
use rstest::rstest;

use crate::Desk;

#[rstest]
#[case::digest(
    "push @mine.wasm reg.example/a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    2,
    "give a tag instead, such as reg.example/a:1"
)]
#[case::no_reference("push @mine.wasm", 2, "<REFERENCE>")]
#[case::bad_reference("push @mine.wasm Not/A/Reference", 2, "is not an image reference")]
#[case::no_file("push @nowhere.wasm reg.example/a:1", 2, "cannot read nowhere.wasm")]
#[case::no_policy("push @text.wasm reg.example/a:1", 1, "is not WebAssembly")]
#[case::no_registries("push @mine.wasm reg.example/a:1 --registries @nowhere.yaml", 2, "nowhere.yaml")]
#[case::contradiction("push @mine.wasm reg.example/a:1 --registries @registries.yaml --plain-http", 2, "contradicts")]
#[case::nobody_there("push @mine.wasm localhost:1/a:1 --plain-http", 1, "localhost:1/a:1: ")]
#[tokio::test]
async fn what_cannot_be_pushed_is_told(#[case] line: &str, #[case] status: u8, #[case] expected: &str) {
    let desk = Desk::with_policy(filter_answering(&Answer::Pass));
    desk.write("text.wasm", "hello");
    desk.write("registries.yaml", "registries:\n  reg.example:\n    endpoint: https://reg.example\n");
    let said = desk.policy(line).await.with(status);
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}
