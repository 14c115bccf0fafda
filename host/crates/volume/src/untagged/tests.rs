use std::time::Duration;

use super::*;

/// A volume as distribution writes it.
struct Volume(tempfile::TempDir);

impl Volume {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, content: &str) {
        let file = self.0.path().join(BASE).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    fn manifest(&self, repository: &str, digest: char, document: &str) {
        let hex = hex(digest);
        self.write(&format!("repositories/{repository}/_manifests/revisions/sha256/{hex}/link"), &full(digest));
        self.write(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), document);
    }

    fn tag(&self, repository: &str, tag: &str, digests: &[char]) {
        let folder = format!("repositories/{repository}/_manifests/tags/{tag}");
        for digest in digests {
            self.write(&format!("{folder}/index/sha256/{}/link", hex(*digest)), &full(*digest));
            self.write(&format!("{folder}/current/link"), &full(*digest));
        }
    }

    fn remove_all(&self) -> Removed {
        remove_untagged(self.0.path(), SystemTime::now() + Duration::from_secs(1)).unwrap()
    }

    fn has(&self, repository: &str, digest: char) -> bool {
        let revisions = format!("repositories/{repository}/_manifests/revisions");
        below(&self.0.path().join(BASE).join(revisions), &full(digest)).exists()
    }
}

fn hex(digest: char) -> String {
    digest.to_string().repeat(64)
}

fn full(digest: char) -> String {
    format!("sha256:{}", hex(digest))
}

#[test]
fn what_a_tag_has_left_goes_and_with_it_the_tags_memory_of_it() {
    let volume = Volume::new();
    volume.manifest("docker.io/a", 'a', "{}");
    volume.manifest("docker.io/a", 'b', "{}");
    volume.manifest("docker.io/a/within", 'b', "{}");
    volume.tag("docker.io/a", "1", &['a', 'b']);
    assert_eq!(volume.remove_all(), Removed { manifests: 2, left_alone: 0 });
    assert!(!volume.has("docker.io/a", 'a') && volume.has("docker.io/a", 'b'));
    // The same digest without a tag, in a repository of its own.
    assert!(!volume.has("docker.io/a/within", 'b'));
    let history = volume.0.path().join(BASE).join("repositories/docker.io/a/_manifests/tags/1/index/sha256");
    assert_eq!(entries(&history).unwrap(), [history.join(hex('b'))]);
    assert_eq!(volume.remove_all(), Removed::default());
}

#[test]
fn what_was_pushed_lately_stays() {
    let volume = Volume::new();
    volume.manifest("a", 'a', "{}");
    let before = SystemTime::now() - Duration::from_mins(1);
    assert_eq!(remove_untagged(volume.0.path(), before).unwrap(), Removed::default());
    assert!(volume.has("a", 'a'));
}

#[test]
fn a_repository_with_something_odd_is_left_alone_and_the_others_are_not() {
    let volume = Volume::new();
    volume.manifest("odd", 'a', "{}");
    volume.manifest("odd", 'b', "no JSON");
    volume.manifest("strange", 'c', "{}");
    volume.write("repositories/strange/_manifests/revisions/sha256/short/link", "sha256:short");
    volume.manifest("cut", 'e', "{}");
    volume.write("repositories/cut/_manifests/tags/1/current/link", "");
    volume.manifest("plain", 'd', "{}");
    assert_eq!(volume.remove_all(), Removed { manifests: 1, left_alone: 3 });
    assert!(volume.has("odd", 'a') && volume.has("strange", 'c') && volume.has("cut", 'e'));
    assert!(!volume.has("plain", 'd'));
}

#[test]
fn a_manifest_whose_bytes_are_gone_needs_nothing() {
    let volume = Volume::new();
    volume.manifest("a", 'a', "{}");
    fs::remove_file(blob(&volume.0.path().join(BASE), &full('a'))).unwrap();
    assert_eq!(volume.remove_all(), Removed { manifests: 1, left_alone: 0 });
}

#[test]
fn a_new_volume_gets_the_folders_that_are_looked_for() {
    let volume = Volume::new();
    assert_eq!(volume.remove_all(), Removed::default());
    assert!(["repositories", "blobs"].iter().all(|folder| volume.0.path().join(BASE).join(folder).is_dir()));
}

#[test]
fn an_index_with_gaps_keeps_what_is_there_and_signatures_stay_with_their_tag() {
    let volume = Volume::new();
    let entry = |digest| format!(r#"{{"digest":"{}"}}"#, full(digest));
    // Of the images of the index, b is there and c is not.
    volume.manifest("a", 'a', &format!(r#"{{"manifests":[{},{}]}}"#, entry('b'), entry('c')));
    volume.manifest("a", 'b', "{}");
    volume.tag("a", "1", &['a']);
    volume.manifest("a", 'd', &format!(r#"{{"manifests":[{}]}}"#, entry('e')));
    volume.manifest("a", 'e', &format!(r#"{{"subject":{}}}"#, entry('a')));
    volume.tag("a", &format!("sha256-{}", hex('a')), &['d']);
    // Completed elsewhere, which is no business of this one.
    volume.manifest("other", 'c', "{}");
    assert_eq!(volume.remove_all(), Removed { manifests: 1, left_alone: 0 });
    assert!(['a', 'b', 'd', 'e'].into_iter().all(|digest| volume.has("a", digest)));
    assert!(!volume.has("other", 'c'));
}
