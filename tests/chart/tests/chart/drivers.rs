//! Distribution, configured by the chart for each kind of bucket: it takes the configuration, and asks where it says.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use cache_registry_chart::{Release, render, tool};
use rstest::rstest;

const LONGEST: Duration = Duration::from_secs(30);

/// What stands in the place of the cloud: it has nothing, and tells what it was asked for.
fn cloud() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let _ = tell.send(head.join("\n"));
            let _ = (&stream).write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, requests)
}

/// Distribution with one of the chart's files, at an address of its own.
struct Registry(Child, SocketAddr);

impl Registry {
    /// Why it does not start, where it does not.
    fn start(release: &Release, text: &str, folder: &Path, cloud: SocketAddr) -> Result<Self, String> {
        let text = text.replace("/etc/cache-registry-storage", &folder.display().to_string());
        let text = text.replace("addr: :500", "addr: 127.0.0.1:0 #");
        let config = folder.join("config.yml");
        fs::write(&config, text).unwrap();
        fs::write(folder.join("credentials.json"), SERVICE_ACCOUNT).unwrap();
        let mut command = Command::new(tool("registry"));
        command.arg("serve").arg(&config).env_clear();
        // Google's own clients are told so where it is.
        command.env("STORAGE_EMULATOR_HOST", cloud.to_string()).env("GCE_METADATA_HOST", cloud.to_string());
        for variable in release.pod("registry").container()["env"].as_array().unwrap() {
            let of_secret = || variable["valueFrom"]["secretKeyRef"]["key"].as_str().map(secret);
            command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().or_else(of_secret).unwrap());
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        while log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split('"').next().unwrap().parse().unwrap();
                // Read to the end, so that it never waits for that.
                thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok(Self(child, address));
            }
            said += &line;
            line.clear();
        }
        child.wait().unwrap();
        Err(said)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn secret(key: &str) -> &'static str {
    match key {
        "accessKey" => "an-access-key",
        // In base64.
        "accountkey" => "a2V5",
        _ => "secret",
    }
}

/// What a key file is like. There is no key in it: nobody signs with it.
const SERVICE_ACCOUNT: &str =
    r#"{"type": "service_account", "client_email": "registry@example", "private_key": "none"}"#;

const S3: &str = "{ s3: { bucket: images, region: eu-west-1, regionendpoint: 'http://CLOUD', forcepathstyle: true, rootdirectory: /cache }, s3ExistingSecret: bucket }";
const GCS: &str = "{ gcs: { bucket: images, rootdirectory: cache }, gcsExistingSecret: bucket }";
const GCS_BY_IDENTITY: &str =
    "{ gcs: { bucket: images, rootdirectory: cache, chunksize: 524288, maxconcurrency: 10 } }";
const AZURE: &str = "{ azure: { container: images, accountname: account, serviceurl: 'http://CLOUD/', rootdirectory: cache }, azureExistingSecret: bucket }";

fn release(persistence: &str, cloud: SocketAddr) -> Release {
    let persistence = persistence.replace("CLOUD", &cloud.to_string());
    render(&format!("registry: {{ authentication: {{ enabled: false }}, persistence: {persistence} }}")).unwrap()
}

fn configuration<'a>(release: &'a Release, file: &str) -> &'a str {
    release.object("ConfigMap", "cache-registry-registry")["data"][file].as_str().unwrap()
}

#[rstest]
#[case(S3, "/images/cache/docker/registry/v2/repositories/some/image/", "Credential=an-access-key/")]
#[case(GCS, "/images/cache%2Fdocker%2Fregistry%2Fv2%2Frepositories%2Fsome%2Fimage%2F", "")]
#[case(GCS_BY_IDENTITY, "/images/cache%2Fdocker%2Fregistry%2Fv2%2Frepositories%2Fsome%2Fimage%2F", "")]
#[case(AZURE, "/images/cache%2Fdocker%2Fregistry%2Fv2%2Frepositories%2Fsome%2Fimage%2F", "SharedKey account:")]
fn distribution_asks_the_bucket_that_values_name(#[case] persistence: &str, #[case] path: &str, #[case] who: &str) {
    for file in ["config.yml", "reader.yml"] {
        let ((cloud, requests), folder) = (cloud(), tempfile::tempdir().unwrap());
        let release = release(persistence, cloud);
        let registry = Registry::start(&release, configuration(&release, file), folder.path(), cloud);
        let registry = registry.unwrap_or_else(|said| panic!("{file} is not taken: {said}"));
        let mut asking = TcpStream::connect(registry.1).unwrap();
        asking.write_all(b"GET /v2/some/image/manifests/1 HTTP/1.0\r\nHost: registry\r\n\r\n").unwrap();
        let is_it = |head: &String| head.contains(path) && head.contains(who);
        // Others are before it where the cloud is asked for credentials.
        let mut heads: Vec<String> = Vec::new();
        while !heads.last().is_some_and(is_it) {
            let head = requests.recv_timeout(LONGEST);
            heads.push(head.unwrap_or_else(|_| panic!("{file}: not asked for; what was: {heads:#?}")));
        }
    }
}

/// So that the test above would fail for a word that distribution does not know.
#[test]
fn what_distribution_does_not_take_would_show() {
    let ((cloud, _requests), folder) = (cloud(), tempfile::tempdir().unwrap());
    let release = release(AZURE, cloud);
    let text = configuration(&release, "config.yml").replace("shared_key", "shared_kye");
    let said = Registry::start(&release, &text, folder.path(), cloud).err().expect("it was taken");
    assert!(said.contains("invalid credentials type"), "{said}");
}
