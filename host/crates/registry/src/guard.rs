use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Says why nothing may be fetched from an address; `None` for one that is reachable by everybody.
///
/// Any pod can name any registry, and the proxy connects from the node's own network. What only the node or the
/// cluster can reach is therefore refused: the special-purpose addresses of IANA's registries
/// ([IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry),
/// [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry)), and addresses that carry one of them inside.
pub(crate) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let why = match address.octets() {
        [0, ..] => "an address of this network (0.0.0.0/8)",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [100, 64..=127, ..] => "a carrier's shared address (100.64.0.0/10)",
        [127, ..] => "a loopback address",
        [169, 254, ..] => "a link-local address",
        [192, 0, 0, _] => "an address for protocol assignments (192.0.0.0/24)",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "an address for documentation",
        [192, 88, 99, _] => "a 6to4 relay's address",
        [198, 18..=19, ..] => "an address for benchmarks (198.18.0.0/15)",
        [224..=239, ..] => "a multicast address",
        [255, 255, 255, 255] => "the broadcast address",
        [240..=255, ..] => "a reserved address (240.0.0.0/4)",
        _ => return None,
    };
    Some(why)
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let why = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "the unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        // IPv4-mapped (RFC 4291 §2.5.5.2) and NAT64 (RFC 6052 §2.1): what is reached is the address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            return refusal_v4(embedded(high, low));
        }
        // 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => return refusal_v4(embedded(high, low)),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => "an address for documentation",
        [0x2001, 0x2, 0, ..] => "an address for benchmarks (2001:2::/48)",
        [0x2001, 0..=0x1ff, ..] => "an address for protocol assignments (2001::/23)",
        [0xfc00..=0xfdff, ..] => "a unique-local address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xfec0..=0xfeff, ..] => "a site-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        // Global unicast is 2000::/3 alone (RFC 4291 §2.4); IPv4-compatible and NAT64's local prefix are outside.
        [0x2000..=0x3fff, ..] => return None,
        _ => "an address outside of global unicast (2000::/3)",
    };
    Some(why)
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0.0.0.0", "this network")]
    #[case("0.1.2.3", "this network")]
    #[case("10.0.0.1", "private")]
    #[case("10.255.255.255", "private")]
    #[case("172.16.0.0", "private")]
    #[case("172.31.255.255", "private")]
    #[case("192.168.1.1", "private")]
    #[case("100.64.0.0", "shared")]
    #[case("100.127.255.255", "shared")]
    #[case("127.0.0.1", "loopback")]
    #[case("127.255.255.254", "loopback")]
    #[case("169.254.169.254", "link-local")]
    #[case("192.0.0.8", "protocol assignments")]
    #[case("192.0.2.1", "documentation")]
    #[case("198.51.100.1", "documentation")]
    #[case("203.0.113.1", "documentation")]
    #[case("192.88.99.1", "6to4 relay")]
    #[case("198.18.0.1", "benchmarks")]
    #[case("198.19.255.255", "benchmarks")]
    #[case("224.0.0.1", "multicast")]
    #[case("239.255.255.255", "multicast")]
    #[case("240.0.0.1", "reserved")]
    #[case("255.255.255.254", "reserved")]
    #[case("255.255.255.255", "broadcast")]
    #[case("::", "unspecified")]
    #[case("::1", "loopback")]
    #[case("::ffff:127.0.0.1", "loopback")]
    #[case("::ffff:10.0.0.1", "private")]
    #[case("::ffff:169.254.169.254", "link-local")]
    #[case("::127.0.0.1", "outside of global unicast")]
    #[case("64:ff9b::127.0.0.1", "loopback")]
    #[case("64:ff9b::169.254.169.254", "link-local")]
    #[case("64:ff9b:1::1", "outside of global unicast")]
    #[case("2002:7f00:1::", "loopback")]
    #[case("2002:a00:1::1", "private")]
    #[case("2001::1", "protocol assignments")]
    #[case("2001:1ff::", "protocol assignments")]
    #[case("2001:2::1", "benchmarks")]
    #[case("2001:db8::1", "documentation")]
    #[case("3fff::1", "documentation")]
    #[case("3fff:fff::1", "documentation")]
    #[case("100::1", "outside of global unicast")]
    #[case("5f00::1", "outside of global unicast")]
    #[case("4000::1", "outside of global unicast")]
    #[case("fc00::1", "unique-local")]
    #[case("fdff::1", "unique-local")]
    #[case("fe80::1", "link-local")]
    #[case("febf::1", "link-local")]
    #[case("fec0::1", "site-local")]
    #[case("ff02::1", "multicast")]
    fn what_only_we_could_reach_is_refused(#[case] address: &str, #[case] why: &str) {
        let refusal = refusal(address.parse().unwrap()).unwrap_or_else(|| panic!("{address} was let through"));
        assert!(refusal.contains(why), "{address}: {refusal}");
    }

    #[rstest]
    #[case("1.1.1.1")]
    #[case("9.255.255.255")]
    #[case("11.0.0.0")]
    #[case("100.63.255.255")]
    #[case("100.128.0.0")]
    #[case("126.255.255.255")]
    #[case("128.0.0.0")]
    #[case("169.253.255.255")]
    #[case("172.15.255.255")]
    #[case("172.32.0.0")]
    #[case("192.0.1.0")]
    #[case("192.167.255.255")]
    #[case("198.17.255.255")]
    #[case("198.20.0.0")]
    #[case("223.255.255.255")]
    #[case("2606:4700::1111")]
    #[case("2001:200::1")]
    #[case("2001:4860:4860::8888")]
    #[case("2002:101:101::1")]
    #[case("3fff:1000::1")]
    #[case("::ffff:1.1.1.1")]
    #[case("64:ff9b::1.1.1.1")]
    fn what_everybody_can_reach_is_not(#[case] address: &str) {
        assert_eq!(refusal(address.parse().unwrap()), None, "{address}");
    }
}
