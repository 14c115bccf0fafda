use std::fs;
use std::path::Path;

use rstest::rstest;

use crate::Desk;

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[rstest]
#[case::rust("", &["Cargo.toml", "README.md", "sdk/Cargo.toml", "sdk/src/lib.rs", "sdk/wit/policy.wit", "src/lib.rs"])]
#[case::js("--lang js", &["README.md", "package.json", "wit/policy.wit"])]
#[case::python("--lang python", &["README.md", "wit/policy.wit"])]
#[tokio::test]
async fn a_project_has_its_name_and_all_that_it_needs(#[case] lang: &str, #[case] expected: &[&str]) {
    let desk = Desk::new();
    let out = desk.policy(&format!("new skip-ci --in @. {lang}")).await.well();
    assert!(out.contains("skip-ci is a policy in ") && out.contains("README.md"), "{out}");
    let project = desk.path("skip-ci");
    let files = files(&project);
    for file in expected {
        assert!(files.iter().any(|found| found == file), "{file} is not in {files:?}");
    }
    for file in &files {
        let content = fs::read_to_string(project.join(file)).unwrap();
        assert!(!content.contains("{{") || file.starts_with("sdk/src"), "{file} has a gap: {content}");
    }
    assert!(fs::read_to_string(project.join("README.md")).unwrap().starts_with("# skip-ci\n"));
}

#[tokio::test]
async fn the_sdk_in_a_project_needs_what_ours_needs() {
    let desk = Desk::new();
    desk.policy("new skip-ci --in @.").await.well();
    let vendored = fs::read_to_string(desk.path("skip-ci/sdk/Cargo.toml")).unwrap();
    let ours = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../policies/sdk/Cargo.toml")).unwrap();
    let dependencies = |manifest: &str| {
        let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
        let lines = lines.take_while(|line| !line.is_empty());
        lines.map(|line| line.split([' ', '.']).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(dependencies(&vendored), dependencies(&ours));
}

#[rstest]
#[case::capital("Skip")]
#[case::underscore("skip_ci")]
#[case::path("../skip")]
#[case::number("1skip")]
#[case::dashes("skip--ci")]
#[case::dash_at_the_end("skip-")]
#[case::built_in("default-filter")]
#[case::keyword("self")]
#[case::long("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
#[tokio::test]
async fn a_name_that_cannot_be_one_is_refused(#[case] name: &str) {
    let desk = Desk::new();
    let said = desk.policy(&format!("new {name} --in @.")).await.with(2);
    assert!(said.contains("cannot be the name of a policy: ") && said.contains("skip-ci"), "{said}");
    assert_eq!(files(&desk.path("")), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_there_is_not_written_over() {
    let desk = Desk::new();
    fs::create_dir(desk.path("skip-ci")).unwrap();
    desk.policy("new skip-ci --in @.").await.well();
    fs::write(desk.path("skip-ci/src/lib.rs"), "mine").unwrap();
    let said = desk.policy("new skip-ci --in @.").await.with(2);
    assert!(said.contains("skip-ci is there already"), "{said}");
    assert_eq!(fs::read_to_string(desk.path("skip-ci/src/lib.rs")).unwrap(), "mine");
    desk.write("taken", "a file");
    desk.policy("new taken --in @.").await.with(2);
}
