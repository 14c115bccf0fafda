use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use cache_registry_core::{Digest, Hasher};
use cache_registry_upstream::{INDEX, Image, Upstream};
use http::header::{ACCEPT, HOST};
use http::{Method, Request};
use rustix::time::{ClockId, clock_gettime};
use tokio::process::Command;

use crate::load::Load;
use crate::machine::{LOAD_CPU, SERVER_CPU};
use crate::part::{Part, free_address};
use crate::pull::Blob;
use crate::row::{Better, Row, median, median_ratio};

const LARGE: usize = 200_000_000;
const PULLS: usize = 11;
const AT_ONCE: usize = 64;
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(1200);
const CONNECTIONS: usize = 16;
/// The path of a node address: what the proxy, and the registry behind it, know the repository by.
const REPOSITORY: &str = "docker.io/bench/image";

/// The programs that are measured.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The folder of `tests/tools/build.sh`.
    pub(crate) tools: PathBuf,
    /// Ours.
    pub(crate) cache_registry: PathBuf,
}

/// A registry, and both ways to it.
struct Stage {
    registry: Part,
    nginx: Part,
    proxy: Part,
    blob: PathAndSize,
}

struct PathAndSize {
    path: String,
    digest: Digest,
    size: usize,
}

/// What is in the cache, through the proxy, through nginx and straight from the registry. Each round measures all
/// three, one after the other.
pub(crate) async fn measure(folder: &Path, programs: &Programs) -> Result<Vec<Row>> {
    let stage = Stage::set(folder, programs).await?;
    let idle = Row::new("proxy idle, RSS", stage.proxy.resident()?, "MiB", Better::Lower).target(10.0);
    let mut rows = vec![idle];
    rows.extend(stage.one_blob_at_a_time().await?);
    rows.extend(stage.many_at_once().await?);
    for method in [Method::HEAD, Method::GET] {
        rows.extend(stage.manifests(&method).await?);
    }
    Ok(rows)
}

impl Stage {
    async fn set(folder: &Path, programs: &Programs) -> Result<Self> {
        let registry = registry(folder, programs).await?;
        let blob = fill(&registry, programs).await?;
        let nginx = nginx(folder, &registry).await?;
        let proxy = proxy(folder, programs, &registry).await?;
        Ok(Self { registry, nginx, proxy, blob })
    }

    fn blob_at(&self, part: &Part) -> Blob {
        Blob {
            address: part.address(),
            path: self.blob.path.clone(),
            digest: self.blob.digest.clone(),
            size: self.blob.size,
        }
    }

    async fn one_blob_at_a_time(&self) -> Result<Vec<Row>> {
        let parts = [&self.proxy, &self.nginx, &self.registry];
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        let mut cpu = [0.0; 3];
        for part in parts {
            self.blob_at(part).check().await.with_context(|| part.log())?;
            part.forget_peak()?;
        }
        for _ in 0..PULLS {
            for ((part, rates), cpu) in parts.into_iter().zip(&mut rates).zip(&mut cpu) {
                let before = part.cpu_seconds()?;
                let took = self.blob_at(part).pull(1).await.with_context(|| part.log())?;
                *cpu += part.cpu_seconds()? - before;
                rates.push(megabytes(1) / took.as_secs_f64());
            }
        }
        let [proxy, nginx, registry] = &rates;
        let gigabytes = megabytes(PULLS) / 1e3;
        let [cpu, cpu_of_nginx, _] = cpu.map(|seconds| seconds / gigabytes * 1e3);
        let to_nginx = median_ratio(proxy, nginx);
        Ok(vec![
            Row::new(
                "200 MB blob through the proxy, nginx the baseline",
                median(proxy.clone()),
                "MB/s",
                Better::Higher,
            )
            .against(median(nginx.clone())),
            Row::ratio("200 MB blob, proxy to nginx", to_nginx, Better::Higher).target(1.0),
            Row::ratio("200 MB blob, proxy to the registry itself", median_ratio(proxy, registry), Better::Higher),
            Row::new("200 MB blob, CPU time of the proxy, nginx the baseline", cpu, "ms/GB", Better::Lower)
                .against(cpu_of_nginx),
            Row::new(
                "200 MB blob, CPU time of its digest alone",
                digest_cost(&self.blob.digest)?,
                "ms/GB",
                Better::Lower,
            ),
            Row::new(
                "200 MB blob, peak RSS of the proxy, nginx the baseline",
                self.proxy.peak()?,
                "MiB",
                Better::Lower,
            )
            .against(self.nginx.peak()?),
            Row::new("200 MB blob, peak RSS of the registry", self.registry.peak()?, "MiB", Better::Lower),
        ])
    }

    async fn many_at_once(&self) -> Result<Vec<Row>> {
        let mut rates = Vec::new();
        for part in [&self.proxy, &self.nginx] {
            part.forget_peak()?;
            let took = self.blob_at(part).pull(AT_ONCE).await.with_context(|| part.log())?;
            rates.push(megabytes(AT_ONCE) / took.as_secs_f64());
        }
        let [proxy, nginx] = rates[..] else { bail!("two were measured") };
        Ok(vec![
            Row::new("64 pulls of 200 MB at once, nginx the baseline", proxy, "MB/s", Better::Higher).against(nginx),
            Row::new("64 pulls of 200 MB at once, peak RSS of the proxy", self.proxy.peak()?, "MiB", Better::Lower)
                .target(32.0)
                .against(self.nginx.peak()?),
        ])
    }

    /// Servers on one core, the load on another.
    async fn manifests(&self, method: &Method) -> Result<Vec<Row>> {
        let parts = [&self.proxy, &self.nginx, &self.registry];
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for part in parts {
            part.pin(&[SERVER_CPU])?;
        }
        for round in 0..=ROUNDS {
            for (part, rates) in parts.into_iter().zip(&mut rates) {
                let request = Request::builder()
                    .method(method)
                    .uri(format!("/v2/{REPOSITORY}/manifests/1.0"))
                    .header(HOST, part.address().to_string())
                    .header(ACCEPT, INDEX)
                    .body(Bytes::new())?;
                let (address, is_right) =
                    (part.address(), if method == Method::HEAD { Bytes::is_empty } else { is_index });
                let load = Load { address, tls: None, request, connections: CONNECTIONS, time: TIME, is_right };
                let measured = load.run(&[LOAD_CPU]).await.with_context(|| part.log())?;
                // The first round warms up.
                if round > 0 {
                    rates.push(measured.per_second());
                }
            }
        }
        let [proxy, nginx, registry] = rates;
        let name = format!("manifest {method}");
        Ok(vec![
            Row::new(
                format!("{name} through the proxy, the registry the baseline"),
                median(proxy.clone()),
                "/s",
                Better::Higher,
            )
            .against(median(registry.clone())),
            Row::ratio(
                format!("{name}, proxy to the registry itself"),
                median_ratio(&proxy, &registry),
                Better::Higher,
            )
            .target(4.0),
            Row::ratio(format!("{name}, proxy to nginx"), median_ratio(&proxy, &nginx), Better::Higher),
        ])
    }
}

/// What computing a digest takes, as the proxy does it for every byte, in milliseconds for 1 GB.
fn digest_cost(digest: &Digest) -> Result<f64> {
    let bytes = vec![1; 64 << 10];
    let mut hasher = Hasher::expecting(digest)?;
    let begun = cpu_time();
    for _ in 0..LARGE / bytes.len() {
        hasher.update(&bytes);
    }
    let took = cpu_time().saturating_sub(begun);
    hasher.finish().err().context("these bytes have another digest")?;
    Ok(took.as_secs_f64() * 1e3 / (megabytes(1) / 1e3))
}

/// What this thread has used of a CPU so far: others use it too.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn is_index(body: &Bytes) -> bool {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    body["mediaType"] == INDEX
}

fn megabytes(blobs: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = (LARGE * blobs) as f64;
    bytes / 1e6
}

/// distribution as the chart would run it: no cache of blob descriptors; and no access log, which the others do not
/// write either.
async fn registry(folder: &Path, programs: &Programs) -> Result<Part> {
    let address = free_address()?;
    let config = folder.join("registry.yml");
    let data = folder.join("registry");
    let text = format!(
        "version: 0.1\n\
         log:\n  level: error\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         http:\n  addr: {address}\n",
        data.display()
    );
    fs::write(&config, text)?;
    let program = programs.tools.join("registry");
    Part::start("registry", &program, &["serve", &config.to_string_lossy()], address, folder).await
}

/// nginx as a person would put it in front of the registry: Debian's defaults for workers, sendfile and buffers, and
/// connections to the registry that are kept.
async fn nginx(folder: &Path, registry: &Part) -> Result<Part> {
    let address = free_address()?;
    let config = folder.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/nginx-{kind};\n", folder.display()))
        .concat();
    let text = format!(
        "daemon off;\n\
         user root;\n\
         worker_processes auto;\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         {temporary}  access_log off;\n\
         \x20 sendfile on;\n\
         \x20 tcp_nopush on;\n\
         \x20 upstream registry {{ server {registry}; keepalive 32; }}\n\
         \x20 server {{\n\
         \x20   listen {address};\n\
         \x20   location / {{\n\
         \x20     proxy_pass http://registry;\n\
         \x20     proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n\
         \x20     proxy_set_header Host $http_host;\n\
         \x20   }}\n\
         \x20 }}\n\
         }}\n",
        folder = folder.display(),
        registry = registry.address(),
    );
    fs::write(&config, text)?;
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().map(Path::new).find(|path| path.is_file());
    let program = program.context("nginx is missing: apt-get install --no-install-recommends nginx")?;
    Part::start("nginx", program, &["-e", "stderr", "-c", &config.to_string_lossy()], address, folder).await
}

async fn proxy(folder: &Path, programs: &Programs, registry: &Part) -> Result<Part> {
    let (address, admin) = (free_address()?, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let arguments = [
        "proxy",
        "--listen",
        &address.to_string(),
        "--admin-listen",
        &admin.to_string(),
        "--cache",
        &format!("http://{}", registry.address()),
    ];
    Part::start("proxy", &programs.cache_registry, &arguments, address, folder).await
}

/// Puts an index, and a manifest with one layer of 200 MB, into the registry.
async fn fill(registry: &Part, programs: &Programs) -> Result<PathAndSize> {
    let source = Upstream::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let large = Image::large(LARGE, 1)?;
    source.add(REPOSITORY, "1.0", &Image::hello(b"program")?);
    source.add(REPOSITORY, "large", &large);
    for tag in ["1.0", "large"] {
        let copied = Command::new(programs.tools.join("crane"))
            .args(["copy", "--insecure"])
            .args([source.address(), registry.address()].map(|address| format!("{address}/{REPOSITORY}:{tag}")))
            .kill_on_drop(true)
            .output();
        let copied = tokio::time::timeout(Duration::from_mins(1), copied).await??;
        if !copied.status.success() {
            bail!("crane could not fill the registry\n{}", String::from_utf8_lossy(&copied.stderr));
        }
    }
    let layer = large.blobs.iter().max_by_key(|blob| blob.bytes.len()).context("an image has blobs")?;
    let path = format!("/v2/{REPOSITORY}/blobs/{}", layer.digest);
    Ok(PathAndSize { path, digest: layer.digest.clone(), size: layer.bytes.len() })
}
