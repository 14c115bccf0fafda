use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Who may listen on an address at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else: a second process gets an error.
    Alone,
    /// A process of the same user that asks for this as well (`SO_REUSEPORT`, socket(7)): the one that takes over is
    /// there before this one goes. The kernel gives each connection to one of them.
    WithSuccessor,
}

/// Connections that wait to be accepted, as many as the standard library has.
const BACKLOG: u32 = 1024;

/// Takes an address.
pub fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // A restart must not wait for connections of the process before, which the kernel remembers for a minute.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(sharing == Sharing::WithSuccessor)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Sharing::WithSuccessor, Sharing::WithSuccessor, true)]
    #[case(Sharing::WithSuccessor, Sharing::Alone, false)]
    #[case(Sharing::Alone, Sharing::WithSuccessor, false)]
    #[case(Sharing::Alone, Sharing::Alone, false)]
    #[tokio::test]
    async fn an_address_is_shared_where_both_agree(
        #[case] first: Sharing,
        #[case] second: Sharing,
        #[case] together: bool,
    ) {
        let listener = listen(([127, 0, 0, 1], 0).into(), first).unwrap();
        let other = listen(listener.local_addr().unwrap(), second);
        assert_eq!(other.map_err(|error| error.kind()).err(), (!together).then_some(io::ErrorKind::AddrInUse));
    }
}
