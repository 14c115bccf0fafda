//! The binary, for what only it does: statuses, and what goes to standard output and to standard error.
#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn policy(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache-registry"));
    command.arg("policy").args(arguments).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: nginx}\n";

#[rstest]
#[case::well(&["run", "-f", "-"], POD, 0)]
#[case::bad_input(&["run", "-f", "-"], "kind: [\n", 2)]
#[case::bad_command_line(&["run"], "", 2)]
#[case::no_file(&["check", "nowhere.wasm"], "", 2)]
#[case::refused(&["check", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], "", 1)]
fn the_status_says_how_it_went(#[case] arguments: &[&str], #[case] input: &str, #[case] status: i32) {
    let output = policy(arguments, input);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(output.stderr.is_empty(), status == 0, "{output:?}");
}

#[test]
fn standard_input_is_read_and_named() {
    let output = policy(&["run", "-f", "-", "-o", "json"], POD);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["pods"][0]["containers"][0]["image"], "localhost:7439/docker.io/library/nginx:latest");
    let output = policy(&["run", "-f", "-"], "\na: [\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("cache-registry: standard input: line 2, column 4: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
