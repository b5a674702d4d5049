//! Which addresses a server may be made to connect to.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address block that is allowed although it is not public, e.g. `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address block such as 10.1.0.0/16");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(block).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(block).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// Whether the server may connect to the address: it is public, or in one of the blocks.
pub(super) fn is_allowed(address: IpAddr, networks: &[Network]) -> bool {
    let address = address.to_canonical();
    is_public(address) || networks.iter().any(|network| network.contains(address))
}

/// Whether the address is one of the public internet, and not one that only pretends to be (a private IPv4 address inside an
/// IPv6 one). What the registries have set aside is not public (RFC 6890 and its successors).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_set_aside = a == 0
        || a >= 240
        || (a, b, c) == (192, 0, 0)
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a, b, c) == (192, 88, 99);
    !(is_set_aside
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let last_v4 = || Ipv4Addr::from(u32::from(segments[6]) << 16 | u32::from(segments[7]));
    match segments {
        // ::ffff:a.b.c.d and ::a.b.c.d
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => {
            address != Ipv6Addr::LOCALHOST && segments[5] != 0 && is_public_v4(last_v4())
        }
        // NAT64: 64:ff9b::a.b.c.d
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(last_v4()),
        // 6to4: 2002:aabb:ccdd::
        [0x2002, high, low, ..] => is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        // Protocol assignments, Teredo among them; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Everything else that is public lies in 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, networks: &[&str]) -> bool {
        let networks: Vec<Network> = networks.iter().map(|text| text.parse().expect("a block")).collect();
        is_allowed(text.parse().expect("an address"), &networks)
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_disguise() {
        for inner in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!allowed(inner, &[]), "{inner}");
        }
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
            "2a00:1450::1",
        ] {
            assert!(allowed(public, &[]), "{public}");
        }
    }

    #[test]
    fn a_block_lets_its_own_addresses_through() {
        assert!(allowed("10.1.2.3", &["192.168.0.0/24", "10.1.0.0/16"]));
        assert!(!allowed("10.2.2.3", &["10.1.0.0/16"]));
        assert!(allowed("::ffff:10.1.2.3", &["10.1.0.0/16"]), "the same address");
        assert!(allowed("fd00::7", &["fd00::/8"]) && !allowed("fe80::1", &["fd00::/8"]));
        assert!(allowed("127.0.0.1", &["0.0.0.0/0"]) && !allowed("::1", &["0.0.0.0/0"]));
        assert!("10.0.0.0".parse::<Network>().is_err() && "10.0.0.0/33".parse::<Network>().is_err());
    }
}
