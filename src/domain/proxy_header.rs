//! The header that a proxy sends before everything else to name its client: PROXY protocol, versions 1 and 2.
//!
//! [`parse`] is asked again with every part that arrives. It says as early as the bytes allow that they are no such header, so
//! that a peer which speaks something else is not waited for; it never takes a byte that belongs to what follows; and it
//! is stricter than the specification (haproxy.org, "The PROXY protocol") where readers could differ: single spaces, no signs, no
//! leading zeros, further fields of version 2 only in sound form. What those fields say is not looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header of version 1, with its line end.
pub const V1_BYTES_MAX: usize = 107;
/// The longest header of version 2 that we take; certificates among its further fields make it long.
pub const V2_BYTES_MAX: usize = 4096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes; what follows belongs to the client.
    pub length: usize,
    /// The client; absent where the proxy speaks for itself or does not know: then its own address counts.
    pub client: Option<SocketAddr>,
}

/// Why the bytes are no header that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProxyHeader {
    /// They begin otherwise.
    #[error("this does not begin like a PROXY header")]
    Start,
    /// It is longer than it may be.
    #[error("the PROXY header is too long")]
    TooLong,
    /// It breaks a rule of its version.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Reads a header at the beginning of `bytes`; nothing yet if more of it is to come.
///
/// # Errors
///
/// No continuation could make these bytes one.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let begins = |start: &[u8]| {
        let common = start.len().min(bytes.len());
        bytes[..common] == start[..common]
    };
    if begins(V2_START) {
        version_2(bytes)
    } else if begins(V1_START) {
        version_1(bytes)
    } else {
        Err(BadProxyHeader::Start)
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        let body = within.strip_suffix(b"\r").unwrap_or(within);
        return match bytes.len() {
            _ if !body.iter().all(is_plain) => Err(BadProxyHeader::Malformed),
            V1_BYTES_MAX.. => Err(BadProxyHeader::TooLong),
            _ => Ok(None),
        };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(BadProxyHeader::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| BadProxyHeader::Malformed)?;
    if !line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(BadProxyHeader::Malformed);
    }
    let fields: Vec<&str> = line.split(' ').collect();
    let client = match fields[..] {
        [_, "UNKNOWN", ..] => None,
        [_, "TCP4", source, destination, from, to] => {
            Some(client::<Ipv4Addr>(source, destination, from, to)?)
        }
        [_, "TCP6", source, destination, from, to] => {
            Some(client::<Ipv6Addr>(source, destination, from, to)?)
        }
        _ => return Err(BadProxyHeader::Malformed),
    };
    Ok(Some(ProxyHeader { length: end + 1, client }))
}

fn client<A: FromStr + Into<IpAddr>>(
    source: &str,
    destination: &str,
    from: &str,
    to: &str,
) -> Result<SocketAddr, BadProxyHeader> {
    let address = |text: &str| text.parse::<A>().map_err(|_| BadProxyHeader::Malformed);
    let (source, _) = (address(source)?, address(destination)?);
    let (from, _) = (port(from)?, port(to)?);
    Ok(SocketAddr::new(source.into(), from))
}

fn port(text: &str) -> Result<u16, BadProxyHeader> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let port = if is_plain { text.parse().ok() } else { None };
    port.ok_or(BadProxyHeader::Malformed)
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let Some(&command) = bytes.get(12) else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadProxyHeader::Malformed),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    let address_bytes = match family {
        // A proxy that speaks for itself may leave anything there.
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        // Its client came over a Unix socket of its own.
        0x31 => 216,
        _ => return Err(BadProxyHeader::Malformed),
    };
    let Some(length) = bytes.get(14..V2_FIXED_BYTES) else { return Ok(None) };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > V2_BYTES_MAX {
        return Err(BadProxyHeader::TooLong);
    }
    if length < V2_FIXED_BYTES + address_bytes {
        return Err(BadProxyHeader::Malformed);
    }
    let Some(rest) = bytes.get(V2_FIXED_BYTES..length) else { return Ok(None) };
    if is_local {
        return Ok(Some(ProxyHeader { length, client: None }));
    }
    let (addresses, further) = rest.split_at(address_bytes);
    if family != 0x00 && !are_fields(further) {
        return Err(BadProxyHeader::Malformed);
    }
    let client = match (family, addresses) {
        (0x11, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            Some(SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*high, *low]))))
        }
        (0x21, addresses) => {
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(BadProxyHeader::Malformed)?;
            let port = rest.get(16..18).ok_or(BadProxyHeader::Malformed)?;
            Some(SocketAddr::from((*source, u16::from_be_bytes([port[0], port[1]]))))
        }
        _ => None,
    };
    Ok(Some(ProxyHeader { length, client }))
}

/// Whether the bytes are a row of further fields: a type, a length of two bytes, a value.
fn are_fields(mut bytes: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((_, next)) = rest.split_at_checked(length) else { return false };
        bytes = next;
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [V2_START, &[command, family], &length, rest].concat()
    }

    fn ipv4(further: &[u8]) -> Vec<u8> {
        let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x01, 0xBB];
        v2(0x21, 0x11, &[&addresses[..], further].concat())
    }

    #[test]
    fn whole_headers_name_their_client() {
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0, 80, 1, 187]].concat();
        let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        for (header, client) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 50000 443\r\n".to_vec(), Some(named("203.0.113.7:50000"))),
            (b"PROXY TCP6 2001:db8::7 ::1 50000 443\r\n".to_vec(), Some(named("[2001:db8::7]:50000"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (longest.as_bytes().to_vec(), None),
            (ipv4(b""), Some(named("203.0.113.7:50000"))),
            (ipv4(&[4, 0, 0, 1, 0, 2, b'h', b'2']), Some(named("203.0.113.7:50000"))),
            (v2(0x21, 0x21, &v6), Some(named("[::1]:80"))),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x21, 0x00, b"anything"), None),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, b"anything"), None),
        ] {
            let length = header.len();
            let shown = String::from_utf8_lossy(&header).into_owned();
            let followed = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&followed), Ok(Some(ProxyHeader { length, client })), "{shown:?}");
            for end in 0..length {
                assert_eq!(parse(&header[..end]), Ok(None), "{shown:?} up to {end}");
            }
        }
    }

    #[test]
    fn everything_else_is_refused_as_soon_as_it_shows() {
        use BadProxyHeader::{Malformed, Start, TooLong};
        let long_line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        let mut short = ipv4(b"");
        short[15] = 11;
        for (bytes, expected) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), Start),
            (b"G".to_vec(), Start),
            (b"\x16\x03\x01".to_vec(), Start),
            (b"PROXY\t".to_vec(), Start),
            (b"proxy tcp4".to_vec(), Start),
            (b"\r\n\r\nx".to_vec(), Start),
            (long_line, TooLong),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 50000 443\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 50000\r\n".to_vec(), Malformed),
            (b"PROXY TCP4  203.0.113.7 10.0.0.1 50000 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 50000 443 \r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 +5000 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 050 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1  443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.07 10.0.0.1 1 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP4 203.0.113.7 ::1 1 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP6 203.0.113.7 10.0.0.1 1 443\r\n".to_vec(), Malformed),
            (b"PROXY TCP5 203.0.113.7 10.0.0.1 1 443\r\n".to_vec(), Malformed),
            (b"PROXY UDP4 203.0.113.7 10.0.0.1 1 443\r\n".to_vec(), Malformed),
            (b"PROXY UNKNOWN\rx".to_vec(), Malformed),
            (b"PROXY UNKNOWN \x00".to_vec(), Malformed),
            (b"PROXY \r\n".to_vec(), Malformed),
            (v2(0x11, 0x11, b"")[..13].to_vec(), Malformed),
            (v2(0x22, 0x11, b"")[..13].to_vec(), Malformed),
            (v2(0x21, 0x12, b"")[..14].to_vec(), Malformed),
            (v2(0x21, 0x41, b"")[..14].to_vec(), Malformed),
            (short, Malformed),
            (ipv4(&[4, 0]), Malformed),
            (ipv4(&[4, 0, 5, 1]), Malformed),
            ([V2_START, &[0x21, 0x11, 0x0F, 0xF1]].concat(), TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(expected), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    /// Headers as proxies send them, of both versions.
    fn any_header() -> impl Strategy<Value = (Vec<u8>, SocketAddr)> {
        let v4 = any::<([u8; 4], u16, bool)>().prop_map(|(ip, port, first)| {
            let header = if first {
                let [a, b, c, d] = ip;
                format!("PROXY TCP4 {a}.{b}.{c}.{d} 10.0.0.1 {port} 443\r\n").into_bytes()
            } else {
                v2(0x21, 0x11, &[&ip[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[1, 187]].concat())
            };
            (header, SocketAddr::from((ip, port)))
        });
        let v6 = any::<([u8; 16], u16, bool)>().prop_map(|(ip, port, first)| {
            let header = if first {
                format!("PROXY TCP6 {} ::1 {port} 443\r\n", Ipv6Addr::from(ip)).into_bytes()
            } else {
                v2(0x21, 0x21, &[&ip[..], &[0; 16], &port.to_be_bytes(), &[1, 187]].concat())
            };
            (header, SocketAddr::from((ip, port)))
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn any_client_is_read_as_it_was_written((header, client) in any_header(), behind in any::<Vec<u8>>()) {
            let bytes = [&header[..], &behind].concat();
            prop_assert_eq!(parse(&bytes), Ok(Some(ProxyHeader { length: header.len(), client: Some(client) })));
        }

        /// What a header is does not depend on how much behind it has arrived, and what was refused stays refused.
        #[test]
        fn more_bytes_change_no_verdict(
            (mut header, _) in any_header(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            behind in any::<Vec<u8>>(),
        ) {
            let place = at.index(header.len());
            header[place] = byte;
            header.extend_from_slice(&behind);
            let whole = parse(&header);
            for end in 0..header.len() {
                match parse(&header[..end]) {
                    Ok(None) => {}
                    early => prop_assert_eq!(early, whole, "up to {}", end),
                }
            }
            if let Ok(Some(found)) = whole {
                prop_assert!(found.length <= header.len() && found.length <= V2_BYTES_MAX);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), version in any::<bool>()) {
            let start = if version { V2_START } else { V1_START };
            let _ = parse(&bytes);
            let _ = parse(&[start, &bytes].concat());
        }
    }
}
