use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use cache_registry_runtime::Sharing;
use tokio::net::TcpListener;

/// Not among the kinds of [`io::ErrorKind`]: `EAFNOSUPPORT` of Linux, a kernel without IPv6.
const FAMILY_NOT_SUPPORTED: i32 = 97;

/// Takes the addresses. A node without IPv6 has no `::1`, and there nothing resolves `localhost` to it: as long as
/// another address was taken, that one is left out.
pub fn listen(addresses: &[SocketAddr], sharing: Sharing) -> io::Result<Vec<TcpListener>> {
    let (mut listeners, mut missing) = (Vec::new(), None);
    for address in addresses {
        match cache_registry_runtime::listen(*address, sharing) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_absent(address, &error) => {
                tracing::warn!(%address, %error, "this node has no IPv6; listening without");
                missing = Some(naming(address, &error));
            }
            Err(error) => return Err(naming(address, &error)),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn is_absent(address: &SocketAddr, error: &io::Error) -> bool {
    address.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST)
        && (error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(FAMILY_NOT_SUPPORTED))
}

fn naming(address: &SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("listening on {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOT_AVAILABLE: i32 = 99;
    const IN_USE: i32 = 98;

    #[rstest]
    #[case("[::1]:7439", NOT_AVAILABLE, true)]
    #[case("[::1]:7439", FAMILY_NOT_SUPPORTED, true)]
    #[case("[::1]:7439", IN_USE, false)]
    #[case("127.0.0.1:7439", NOT_AVAILABLE, false)]
    #[case("[2001:db8::1]:7439", NOT_AVAILABLE, false)]
    fn only_the_loopback_of_ipv6_may_be_absent(#[case] address: SocketAddr, #[case] code: i32, #[case] absent: bool) {
        assert_eq!(is_absent(&address, &io::Error::from_raw_os_error(code)), absent);
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_it() {
        let first = listen(&["127.0.0.1:0".parse().unwrap()], Sharing::Alone).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = listen(&[address], Sharing::Alone).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&format!("listening on {address}: ")), "{error}");
    }
}
