use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::UdpSocket;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};

use crate::host::Host;

/// Offers `wasi:sockets/udp-create-socket`, which denies. `wasmtime-wasi` denies it too, but waits for a runtime of its own
/// to do so, and where a request is served nothing may wait.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("wasi:sockets/udp-create-socket@0.2.0")?;
    interface.func_wrap("create-udp-socket", |_, (_,): (IpAddressFamily,)| {
        Ok((Err::<Resource<UdpSocket>, _>(ErrorCode::AccessDenied),))
    })
}
