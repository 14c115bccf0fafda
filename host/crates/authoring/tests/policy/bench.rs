use cache_registry_guests::filter;
use rstest::rstest;

use crate::Desk;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: nginx}]}}";

#[tokio::test]
async fn a_policy_is_measured_beside_the_built_in_ones() {
    let desk = Desk::with_policy(filter("(drop (memory.grow (i32.const 3)))"));
    desk.write("pod.yaml", POD);
    let ended = desk.policy("bench @mine.wasm -f @pod.yaml --for 50ms").await;
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.said.contains("compiling mine.wasm") && ended.said.contains("measuring for 50ms"), "{}", ended.said);
    let lines: Vec<_> = ended.out.lines().collect();
    assert!(lines[0].ends_with("on one thread, about 1 images of 1 pods in turn"), "{}", ended.out);
    let columns: Vec<_> = lines[2].split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns, ["policy", "p50", "p99", "instance p50", "memory", "compile"]);
    let names: Vec<_> = lines[3..].iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["mine", "default-filter", "default-rewrite"]);
    assert!(lines[3].contains(" 256 KiB "), "{}", lines[3]);
}

#[rstest]
#[case::it_fails("bench @mine.wasm -f @pod.yaml", 1, "mine panicked")]
#[case::it_takes_too_long("bench @loops.wasm -f @pod.yaml", 1, "loops took longer than 50ms")]
#[case::nobody_is_asked("bench @mine.wasm -f @opted-out.yaml", 2, "no policy is asked")]
#[case::no_pod("bench @mine.wasm", 2, "--filename")]
#[case::no_file("bench @nowhere.wasm -f @pod.yaml", 2, "cannot read nowhere.wasm")]
#[case::no_policy("bench @pod.yaml -f @pod.yaml", 1, "is not WebAssembly")]
#[tokio::test]
async fn what_cannot_be_measured_is_told(#[case] line: &str, #[case] status: u8, #[case] expected: &str) {
    let desk = Desk::with_policy(filter("unreachable"));
    desk.write("loops.wasm", filter("(loop $forever (br $forever))"));
    desk.write("pod.yaml", POD);
    let label = "labels: {cache-registry.enix.io/image-caching-policy: ignore}, ";
    desk.write("opted-out.yaml", POD.replace("name: web}, spec", &format!("{label}name: web}}, spec")));
    let said = desk.policy(line).await.with(status);
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}
