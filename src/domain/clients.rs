//! Clients by their address: what stands for one client, and which may come.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// What stands for one client when things are counted: the address, or the /64 of IPv6, of which a client has as
/// many addresses as it likes.
pub fn visitor_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether one of these networks holds the address; an IPv4 address written in IPv6 is the same as in IPv4.
pub fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Which client addresses may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRule {
    /// Only these; absent: all.
    pub allow: Option<Box<[IpNet]>>,
    /// Never these, even if `allow` has them.
    pub deny: Box<[IpNet]>,
}

impl ClientRule {
    /// Whether a client with this address may come.
    pub fn admits(&self, address: IpAddr) -> bool {
        self.allow.as_deref().is_none_or(|allow| holds(allow, address)) && !holds(&self.deny, address)
    }
}

/// As a sentence for people: `10.0.0.0/8, but not 10.0.0.7/32`.
impl fmt::Display for ClientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, networks: &[IpNet]| {
            for (at, network) in networks.iter().enumerate() {
                write!(f, "{}{network}", if at == 0 { "" } else { " or " })?;
            }
            Ok(())
        };
        match &self.allow {
            Some(allow) => list(f, allow)?,
            None => f.write_str("anywhere")?,
        }
        if !self.deny.is_empty() {
            f.write_str(", but not ")?;
            list(f, &self.deny)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn networks(texts: &[&str]) -> Box<[IpNet]> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn a_visitor_is_an_address_or_a_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let [a, b] = [one, other].map(|text| visitor_network(address(text)));
            assert_eq!(a == b, same, "{one} {other}");
        }
    }

    #[test]
    fn who_is_denied_does_not_come_even_if_allowed() {
        let inside = ClientRule {
            allow: Some(networks(&["10.0.0.0/8", "2001:db8::/32"])),
            deny: networks(&["10.9.0.0/16"]),
        };
        let outside = ClientRule { allow: None, deny: networks(&["192.0.2.7/32"]) };
        for (rule, client, expected) in [
            (&inside, "10.1.2.3", true),
            (&inside, "::ffff:10.1.2.3", true),
            (&inside, "10.9.2.3", false),
            (&inside, "11.0.0.1", false),
            (&inside, "2001:db8::1", true),
            (&inside, "2001:db9::1", false),
            (&outside, "192.0.2.6", true),
            (&outside, "192.0.2.7", false),
            (&outside, "::ffff:192.0.2.7", false),
            (&outside, "::1", true),
        ] {
            assert_eq!(rule.admits(address(client)), expected, "{rule}: {client}");
        }
    }

    #[test]
    fn a_rule_reads_as_a_sentence() {
        let rule = ClientRule {
            allow: Some(networks(&["10.0.0.0/8", "::1/128"])),
            deny: networks(&["10.0.0.7/32"]),
        };
        assert_eq!(rule.to_string(), "10.0.0.0/8 or ::1/128, but not 10.0.0.7/32");
        assert_eq!(ClientRule { allow: None, ..rule }.to_string(), "anywhere, but not 10.0.0.7/32");
    }
}
