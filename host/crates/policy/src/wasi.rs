//! The WASI of policies: all of it, with nothing in it.
//!
//! The toolchains of some languages make components that import `wasi:*` whether they use it or not. They get no
//! environment, no arguments, no files and no sockets; their standard input is closed, what they print is in the
//! policy's log, clocks stand still, and random numbers are the same each time. A policy whose component imports
//! nothing of it pays nothing for it.
//!
//! **Nothing here waits.** Time limits are kept by the guest's own code, so a host function has to come back at once.
//! That is why streams, polling and clocks are ours, where the rest is of `wasmtime-wasi`, whose functions cannot get
//! hold of a file or a socket to wait for.

mod cli;
mod datagrams;
mod io;
mod time_and_chance;

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::{cli as commands, clocks, filesystem, random, sockets, sync};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};

use crate::host::Host;
use crate::log::Log;

/// What one instance has of it.
pub(crate) struct Wasi {
    log: Arc<Log>,
    chance: u64,
    table: ResourceTable,
    filesystem: WasiFilesystemCtx,
    sockets: WasiSocketsCtx,
}

/// Why a call into WASI ended the policy's. Displayed, it continues the sentence that the policy's name begins.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("ended itself with status {0}")]
    Exit(u8),
    #[error("waited for time to pass, which it does not while a policy is asked")]
    Wait,
    #[error("asked for {0} random bytes at once")]
    Random(u64),
    #[error("used a handle of WASI that it cannot have")]
    Handle,
}

/// True for the interfaces that are there, by the name of an import.
pub(crate) fn offers(name: &str) -> bool {
    const PACKAGES: [&str; 6] =
        ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    version.starts_with("0.2.") && PACKAGES.iter().any(|package| interface.starts_with(&format!("{package}/")))
}

/// Things of WASI that one instance holds at a time. Hardly any can be had.
const MOST_HANDLES: usize = 64;

impl Wasi {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MOST_HANDLES);
        // The defaults grant nothing: no directory is opened before, TCP, UDP and names are forbidden.
        Self { log, chance: 0, table, filesystem: WasiFilesystemCtx::default(), sockets: WasiSocketsCtx::default() }
    }

    fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.filesystem, table: &mut self.table }
    }

    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut self.sockets, table: &mut self.table }
    }
}

/// Offers it to components.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi_io::bindings::wasi::io::error::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    sync::io::poll::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    sync::io::streams::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    clocks::monotonic_clock::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    clocks::wall_clock::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    random::random::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    random::insecure::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    random::insecure_seed::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::environment::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::exit::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::stdin::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::stdout::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::stderr::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::terminal_input::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::terminal_output::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::terminal_stdin::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::terminal_stdout::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;
    commands::terminal_stderr::add_to_linker::<_, HasSelf<Wasi>>(linker, Host::wasi)?;

    let options = sockets::network::LinkOptions::default();
    sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, |host| host.wasi().filesystem())?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, |host| host.wasi().filesystem())?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(linker, |host| host.wasi().sockets())?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(linker, |host| host.wasi().sockets())?;
    datagrams::add_to_linker(linker)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, |host| host.wasi().sockets())?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, |host| host.wasi().sockets())?;
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &options, |host| host.wasi().sockets())?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, |host| host.wasi().sockets())?;
    Ok(())
}
