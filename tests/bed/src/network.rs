use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::part::{Part, Ready};

/// The addresses and the bridge of one bed, made from its number so that two beds share nothing.
///
/// ```text
///   host: 127.213.N.1                          control plane, webhook, controllers
///         10.213.N.1 on the bridge crbN        the registry, upstream
///             ├─ crbN-a ── eth0 10.213.N.11    node a: containerd, proxy on its own loopback
///             └─ crbN-b ── eth0 10.213.N.12    node b
/// ```
///
/// A node has no route to anything else: what it pulls comes from the bed.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    number: u8,
}

impl Network {
    pub(crate) fn new(number: u8) -> Self {
        Self { number }
    }

    /// By which its addresses differ from those of other beds.
    pub(crate) fn number(self) -> u8 {
        self.number
    }

    /// An address that only this machine reaches, at this port.
    pub fn host(self, port: u16) -> SocketAddr {
        SocketAddrV4::new(Ipv4Addr::new(127, 213, self.number, 1), port).into()
    }

    /// An address that the nodes reach, at this port.
    pub fn shared(self, port: u16) -> SocketAddr {
        SocketAddrV4::new(self.inside(1), port).into()
    }

    fn inside(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, last)
    }

    fn bridge(self) -> String {
        format!("crb{}", self.number)
    }

    /// Gives the bridge its address and brings it up.
    pub(crate) fn up(self) -> Result<()> {
        let (bridge, address) = (self.bridge(), self.inside(1));
        ip(&[], &format!("addr add {address}/24 dev {bridge}\nlink set {bridge} up\n"))
    }

    /// Makes a network namespace with a loopback and a link to the bridge. `place` is 0 to 9.
    pub(crate) fn namespace(self, name: &str, place: u8) -> Result<Namespace> {
        let bridge = self.bridge();
        let namespace = Namespace { name: format!("{bridge}-{name}"), address: self.inside(11 + place) };
        let link = &namespace.name;
        ip(
            &[],
            &format!(
                "netns add {link}\n\
                 link add {link} type veth peer name eth0 netns {link}\n\
                 link set {link} master {bridge} up\n"
            ),
        )?;
        let inside = format!("link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n", namespace.address);
        ip(&["-netns", link], &inside)?;
        Ok(namespace)
    }
}

/// The network namespace of a node.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
}

impl Namespace {
    /// Where the host reaches it.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddrV4::new(self.address, port).into()
    }

    /// The file that stands for it, for `nsenter --net=`.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Its name on this machine, which no other bed's node has.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A part that runs in it.
    pub(crate) fn part(&self, folder: &Path, name: impl Into<String>, program: PathBuf, ready: Ready) -> Part {
        Part::new(folder, name, "nsenter", ready).args([format!("--net={}", self.path()).into(), program])
    }

    /// Connects to a port of its loopback, from within.
    pub async fn connect(&self, port: u16, version: IpVersion) -> Result<TcpStream> {
        let address = SocketAddr::new(version.loopback(), port);
        let path = self.path();
        let (answer, connected) = oneshot::channel();
        // A socket belongs to the namespace of the thread that makes it, so a thread of its own goes there.
        std::thread::spawn(move || {
            let connect = || -> Result<std::net::TcpStream> {
                let namespace = File::open(&path).with_context(|| path.clone())?;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(std::net::TcpStream::connect(address)?)
            };
            // The other side is gone when nobody waits any more.
            drop(answer.send(connect()));
        });
        let stream = connected.await.map_err(|_| anyhow!("the connecting thread ended"))?;
        let stream = stream.with_context(|| format!("{address} in {}", self.name))?;
        stream.set_nonblocking(true)?;
        Ok(TcpStream::from_std(stream)?)
    }
}

/// Which of the two that `localhost` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// `127.0.0.1`
    V4,
    /// `::1`
    V6,
}

impl IpVersion {
    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// Runs a batch of `ip` commands; the first that fails ends it.
pub(crate) fn ip(arguments: &[&str], batch: &str) -> Result<()> {
    let mut process = Command::new("ip")
        .args(arguments)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip (Debian package iproute2) did not start")?;
    if let Some(mut input) = process.stdin.take() {
        input.write_all(batch.as_bytes())?;
    }
    let output = process.wait_with_output()?;
    if !output.status.success() {
        bail!("ip {}: {}\n{batch}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
