//! The CNCF registry, as Debian packages it (2.8) and as it is today (3).

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use url::Url;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Version {
    Two,
    Three,
}

/// Serves on loopback, from a temporary folder, until it is dropped.
pub(crate) struct Distribution {
    pub(crate) url: Url,
    version: Version,
    process: Child,
    folder: tempfile::TempDir,
}

/// Who may do anything in a [`Distribution::guarded`].
pub(crate) const USER: &str = "robot";
pub(crate) const PASSWORD: &str = "in the registry";
/// Of both, as `htpasswd -B` writes it.
const HTPASSWD: &str = "robot:$2a$04$HpTVs7jagDAWG2wbAUiSoe83wp8NMsxdmyO2PPe8J2RRwZ.u3Oo0G\n";

impl Distribution {
    pub(crate) fn start(version: Version) -> Self {
        Self::with(version, true, "")
    }

    /// One of which nothing can be deleted, as it is by default.
    pub(crate) fn without_deletion(version: Version) -> Self {
        Self::with(version, false, "")
    }

    /// One that lets nobody in but [`USER`] with [`PASSWORD`], by HTTP Basic.
    pub(crate) fn guarded(version: Version) -> Self {
        Self::with(version, true, "auth:\n  htpasswd:\n    realm: tests\n    path: HTPASSWD\n")
    }

    /// One that takes indexes of which not every image is there, as the chart has it. Version 2 takes none such.
    pub(crate) fn taking_sparse_indexes(version: Version) -> Self {
        Self::with(version, true, "    indexes:\n      platforms: none\n")
    }

    /// Stops it, does something with its root directory, runs `garbage-collect`, and starts it again, at another port.
    pub(crate) fn collect(mut self, arguments: &[&str], before: impl FnOnce(&Path)) -> Self {
        let _ = self.process.kill();
        let _ = self.process.wait();
        before(&self.folder.path().join("data"));
        let mut command = Command::new(program(self.version));
        command.arg("garbage-collect").args(arguments).arg(self.folder.path().join("config.yml"));
        let output = command.env("OTEL_TRACES_EXPORTER", "none").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (self.process, self.url) = serve(self.version, self.folder.path());
        self
    }

    /// `127.0.0.1:<port>`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.url.port().unwrap())
    }

    fn with(version: Version, deletion: bool, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let root = folder.path().join("data");
        let htpasswd = folder.path().join("htpasswd");
        std::fs::write(&htpasswd, HTPASSWD).unwrap();
        let more = more.replace("HTPASSWD", &htpasswd.display().to_string());
        // By default it refuses every manifest with a layer that is to be had from a URL alone.
        let text = format!(
            "version: 0.1\nstorage:\n  delete:\n    enabled: {deletion}\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n\
             validation:\n  manifests:\n    urls:\n      allow: [\"^https://\"]\n{more}",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let (process, url) = serve(version, folder.path());
        Self { url, version, process, folder }
    }
}

/// Starts it with the configuration in a folder, and waits until it says where it listens.
fn serve(version: Version, folder: &Path) -> (Child, Url) {
    let mut command = Command::new(program(version));
    command.arg("serve").arg(folder.join("config.yml")).env("OTEL_TRACES_EXPORTER", "none");
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap_or_else(|error| {
        panic!("{} does not start ({error}): apt-get install docker-registry", program(version).display())
    });
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let (found, url) = mpsc::channel();
    // Reads on to the end, so that the registry never waits for its log to be read.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address: String = rest.chars().take_while(|c| !matches!(c, '"' | ',' | ' ')).collect();
                let _ = found.send(address);
            }
        }
    });
    let address = url.recv_timeout(Duration::from_secs(30));
    let address = address.unwrap_or_else(|_| {
        let _ = process.kill();
        panic!("{version:?} does not say where it listens")
    });
    (process, Url::parse(&format!("http://{address}")).unwrap())
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program(version: Version) -> PathBuf {
    match version {
        Version::Two => "docker-registry".into(),
        Version::Three => tool("registry"),
    }
}

/// A program that `tests/tools` builds.
pub(crate) fn tool(name: &str) -> PathBuf {
    BUILT.join(name)
}

static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/tools/build.sh");
    let output = Command::new(build).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{build} failed: it needs Go, see the README");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
});
