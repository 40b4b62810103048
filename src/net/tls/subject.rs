//! Names in certificates as text: RFC 4514.
//!
//! One to one: two different names never read alike, so that a rule may compare texts. What an attribute's value says of
//! commas, quotes and controls is escaped; an attribute without a short name, and a value that is no text, stand as numbers.

use std::fmt::Write;
use x509_parser::der_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::x509::X509Name;

/// The short names that RFC 4514 §3 lists, by object identifier.
const SHORT: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The most specific part first, as RFC 4514 §2.1 has it: `CN=alice,O=Example`.
pub(super) fn written(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter().collect();
    for (at, part) in parts.into_iter().rev().enumerate() {
        if at > 0 {
            text.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                text.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT.iter().find(|(number, _)| *number == oid);
            text.push_str(short.map_or(&oid, |(_, name)| name));
            text.push('=');
            match (short, text_of(attribute.attr_value())) {
                (Some(_), Some(value)) => escape(value, &mut text),
                _ => hex(attribute.attr_value(), &mut text),
            }
        }
    }
    text
}

/// The value where it is text in an alphabet that UTF-8 includes.
fn text_of<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    match value.header.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(value.data).ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4; control characters as hex pairs.
fn escape(value: &str, into: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_edge = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing into a string does not fail.
                let _ = write!(into, "\\{byte:02x}");
            }
            continue;
        }
        if at_edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
}

/// `#` and the whole value, type and length included.
fn hex(value: &Any<'_>, into: &mut String) {
    into.push('#');
    for byte in value.to_der_vec().unwrap_or_default() {
        // Writing into a string does not fail.
        let _ = write!(into, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    #[test]
    fn a_subject_reads_as_rfc_4514_writes_it() {
        let common = |text: &str| (DnType::CommonName, DnValue::Utf8String(text.to_owned()));
        let company = |text: &str| (DnType::OrganizationName, DnValue::Utf8String(text.to_owned()));
        for (parts, expected) in [
            (vec![company("Example"), common("alice")], "CN=alice,O=Example"),
            (vec![common("alice,O=Example")], "CN=alice\\,O=Example"),
            (vec![common(" #a+b\\ ")], "CN=\\ #a\\+b\\\\\\ "),
            (vec![common("#a\0\n\u{85}")], "CN=\\#a\\00\\0a\\c2\\85"),
            (vec![common("李")], "CN=李"),
            (
                vec![(DnType::CustomDnType(vec![2, 5, 4, 5]), DnValue::Utf8String("7".into()))],
                "2.5.4.5=#0c0137",
            ),
            (vec![], ""),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in parts {
                params.distinguished_name.push(kind, value);
            }
            let key = KeyPair::generate().expect("a key can be made");
            let made = params.self_signed(&key).expect("a certificate can be made");
            let (_, read) = x509_parser::parse_x509_certificate(made.der()).expect("it is one");
            assert_eq!(written(read.subject()), expected);
        }
    }
}
