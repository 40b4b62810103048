//! Who a request comes from, packed the way it leaves: every claim already in its header form.
//!
//! A session and a believed token each hold one [`Identity`]: a single run of bytes with the claims in the order
//! they were given. Reading a claim is a scan over a few dozen bytes and allocates nothing; policies compare in the same
//! encoded form, which is one to one, so nothing is decoded on a request's path.
//!
//! The header form (design: "Values in identity headers"): UTF-8, percent-encoded where a byte lies outside
//! 0x20–0x7E, is `%`, or is a space at an edge; in items of a list also `,`, and items are joined by `,`.
//! A claim that is absent, null or empty is not held at all. `subject` and `source` always stand.

use std::collections::BTreeMap;
use std::fmt;

/// The claim names with a meaning of their own.
pub const SUBJECT: &str = "subject";
/// The name space in which a subject is unique: an issuer, or the name of a way to sign in.
pub const SOURCE: &str = "source";
/// The list that `allow: { groups: … }` reads.
pub const GROUPS: &str = "groups";
/// The address that `allow: { email_domain: … }` reads.
pub const EMAIL: &str = "email";
/// The list that `allow: { scope: … }` reads (RFC 8693 §4.2).
pub const SCOPE: &str = "scope";
/// When the subject was authenticated, in seconds since 1970 (`OpenID` Connect Core §2).
pub const AUTH_TIME: &str = "auth_time";
/// No claim but a deadline, which identity headers name like one: until when the session lives if it is not used.
pub const IDLE_UNTIL: &str = "idle_until";
/// The same: until when the session lives however busy.
pub const ENDS_AT: &str = "ends_at";

/// One statement about a subject, as a user file or a token makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string.
    Text(String),
    /// A number, in the digits it came with.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// Several strings, in order.
    List(Vec<String>),
}

/// Claims by name, without `subject` and `source`.
pub type Claims = BTreeMap<String, ClaimValue>;

/// Why an identity could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A subject of no characters names nobody.
    #[error("the subject is empty")]
    EmptySubject,
    /// One claim, or all of them, in header form exceed the bound.
    #[error("the claims are longer than {MAX_PACKED_BYTES} bytes in header form")]
    TooLong,
}

/// Upper bound of a packed identity in bytes; a request to the upstream could not carry more anyway.
pub const MAX_PACKED_BYTES: usize = 16 * 1024;

/// A subject with its claims, believed. Owned form; [`IdentityRef`] reads it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(Box<[u8]>);

impl Identity {
    /// Packs a subject with its claims.
    pub fn new(subject: &str, source: &str, claims: &Claims) -> Result<Self, IdentityError> {
        if subject.is_empty() {
            return Err(IdentityError::EmptySubject);
        }
        let mut packed = Vec::with_capacity(64);
        pack(&mut packed, SUBJECT, Kind::Text, &encode_text(subject))?;
        pack(&mut packed, SOURCE, Kind::Text, &encode_text(source))?;
        for (name, value) in claims {
            let (kind, encoded) = match value {
                ClaimValue::Text(text) => (Kind::Text, encode_text(text)),
                ClaimValue::Number(digits) => (Kind::Text, encode_text(digits)),
                ClaimValue::Bool(value) => (Kind::Text, value.to_string()),
                ClaimValue::List(items) => {
                    let items: Vec<String> =
                        items.iter().filter(|item| !item.is_empty()).map(|item| encode_item(item)).collect();
                    (Kind::List, items.join(","))
                }
            };
            if !encoded.is_empty() && name != SUBJECT && name != SOURCE {
                pack(&mut packed, name, kind, &encoded)?;
            }
        }
        Ok(Self(packed.into_boxed_slice()))
    }

    /// A view to read claims from.
    pub fn as_ref(&self) -> IdentityRef<'_> {
        IdentityRef(&self.0)
    }

    /// The packed bytes, for a store to keep; [`IdentityRef::from_packed`] reads them back.
    pub fn packed(&self) -> &[u8] {
        &self.0
    }
}

/// Claims are personal data: `Debug` names the subject and nothing else.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.as_ref().subject())
    }
}

/// A claim in its header form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// One value.
    Text(&'a str),
    /// Items joined by `,`; a comma inside an item is `%2C`.
    List(&'a str),
}

impl<'a> Claim<'a> {
    /// The value as it stands in a header.
    pub fn header_form(self) -> &'a str {
        match self {
            Self::Text(value) | Self::List(value) => value,
        }
    }

    /// Whether the claim is `wanted` or, for a list, contains it.
    pub fn has(self, wanted: &Literal) -> bool {
        match self {
            Self::Text(value) => value == &*wanted.text,
            Self::List(value) => value.split(',').any(|item| item == &*wanted.item),
        }
    }
}

/// A value that a policy compares with, in both encoded forms.
#[derive(Clone, PartialEq, Eq)]
pub struct Literal {
    text: Box<str>,
    item: Box<str>,
}

impl Literal {
    /// Encodes a plain value.
    pub fn new(plain: &str) -> Self {
        Self { text: encode_text(plain).into(), item: encode_item(plain).into() }
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decode(&self.text))
    }
}

/// Reads claims out of packed bytes.
#[derive(Clone, Copy)]
pub struct IdentityRef<'a>(&'a [u8]);

impl<'a> IdentityRef<'a> {
    /// Reads bytes that [`Identity::packed`] gave.
    pub fn from_packed(packed: &'a [u8]) -> Self {
        Self(packed)
    }

    /// The packed bytes.
    pub fn as_packed(self) -> &'a [u8] {
        self.0
    }

    /// Looks a claim up by name; `subject` and `source` are claims like others.
    pub fn claim(self, name: &str) -> Option<Claim<'a>> {
        let mut rest = self.0;
        while let Some((held, kind, value)) = split_claim(&mut rest) {
            if held == name.as_bytes() {
                return as_claim(kind, value);
            }
        }
        None
    }

    /// The subject in header form.
    pub fn subject(self) -> &'a str {
        self.claim(SUBJECT).map_or("", Claim::header_form)
    }

    /// The source in header form.
    pub fn source(self) -> &'a str {
        self.claim(SOURCE).map_or("", Claim::header_form)
    }

    /// All claims in order, `subject` and `source` first.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Claim<'a>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, kind, value) = split_claim(&mut rest)?;
            Some((std::str::from_utf8(name).ok()?, as_claim(kind, value)?))
        })
    }

    /// What both say, in the order of `self`: claims with the same value, and of lists the items in both.
    pub fn common(self, other: IdentityRef<'_>) -> Identity {
        let mut packed = Vec::with_capacity(self.0.len());
        for (name, mine) in self.iter() {
            let kept = match (mine, other.claim(name)) {
                (Claim::Text(value), Some(Claim::Text(theirs))) if value == theirs => {
                    pack(&mut packed, name, Kind::Text, value)
                }
                (Claim::List(items), Some(Claim::List(theirs))) => {
                    let items: Vec<&str> = items
                        .split(',')
                        .filter(|item| theirs.split(',').any(|their| their == *item))
                        .collect();
                    if items.is_empty() {
                        Ok(())
                    } else {
                        pack(&mut packed, name, Kind::List, &items.join(","))
                    }
                }
                _ => Ok(()),
            };
            kept.expect("a part of an identity is no longer than the whole");
        }
        Identity(packed.into_boxed_slice())
    }

    /// The same identity on the heap.
    pub fn to_owned(self) -> Identity {
        Identity(self.0.into())
    }
}

impl fmt::Debug for IdentityRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityRef({})", self.subject())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Text = 0,
    List = 1,
}

/// Takes the first claim off `rest`: name, kind, value.
fn split_claim<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], u8, &'a [u8])> {
    let (name_len, tail) = rest.split_first()?;
    let (name, tail) = tail.split_at_checked(usize::from(*name_len))?;
    let (&kind, tail) = tail.split_first()?;
    let (len, tail) = tail.split_first_chunk::<2>()?;
    let (value, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *rest = tail;
    Some((name, kind, value))
}

fn as_claim(kind: u8, value: &[u8]) -> Option<Claim<'_>> {
    let value = std::str::from_utf8(value).ok()?;
    Some(if kind == Kind::List as u8 { Claim::List(value) } else { Claim::Text(value) })
}

fn pack(packed: &mut Vec<u8>, name: &str, kind: Kind, value: &str) -> Result<(), IdentityError> {
    let name_len = u8::try_from(name.len()).map_err(|_| IdentityError::TooLong)?;
    let value_len = u16::try_from(value.len()).map_err(|_| IdentityError::TooLong)?;
    packed.push(name_len);
    packed.extend_from_slice(name.as_bytes());
    packed.push(kind as u8);
    packed.extend_from_slice(&value_len.to_le_bytes());
    packed.extend_from_slice(value.as_bytes());
    if packed.len() > MAX_PACKED_BYTES { Err(IdentityError::TooLong) } else { Ok(()) }
}

/// Encodes a single value.
pub fn encode_text(plain: &str) -> String {
    encode(plain, false)
}

/// Encodes an item of a list, where a comma separates.
pub fn encode_item(plain: &str) -> String {
    encode(plain, true)
}

fn encode(plain: &str, in_list: bool) -> String {
    let bytes = plain.as_bytes();
    let last = bytes.len().saturating_sub(1);
    let mut encoded = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let edge_space = byte == b' ' && (at == 0 || at == last);
        if !(0x20..=0x7E).contains(&byte) || byte == b'%' || edge_space || (in_list && byte == b',') {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            encoded.push(char::from(byte));
        }
    }
    encoded
}

/// Undoes [`encode_text`] and [`encode_item`]; anything they did not write is kept as it stands.
pub fn decode(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = match tail {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escape {
            bytes.push(high << 4 | low);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alice() -> Identity {
        let claims = Claims::from([
            (EMAIL.into(), ClaimValue::Text("alice@example.com".into())),
            (GROUPS.into(), ClaimValue::List(vec!["ops".into(), "a,b".into(), String::new()])),
            ("name".into(), ClaimValue::Text("李 雷".into())),
            ("nothing".into(), ClaimValue::Text(String::new())),
            ("subject".into(), ClaimValue::Text("root".into())),
        ]);
        Identity::new("alice", "local", &claims).expect("a plain identity packs")
    }

    #[test]
    fn claims_are_held_in_header_form() {
        let identity = alice();
        let identity = identity.as_ref();
        assert_eq!(identity.subject(), "alice", "a claim named subject does not replace the subject");
        assert_eq!(identity.claim(GROUPS), Some(Claim::List("ops,a%2Cb")));
        assert_eq!(identity.claim("name"), Some(Claim::Text("%E6%9D%8E %E9%9B%B7")));
        assert_eq!(identity.claim("nothing"), None, "an empty claim is no claim");
    }

    #[test]
    fn a_group_with_a_comma_is_one_group() {
        let identity = alice();
        let groups = identity.as_ref().claim(GROUPS).expect("alice has groups");
        assert!(groups.has(&Literal::new("a,b")));
        assert!(!groups.has(&Literal::new("a")));
    }

    #[test]
    fn in_common_is_what_neither_adds_nor_changes() {
        let identity = |groups: &[&str], claims: &[(&str, &str)]| {
            let groups = groups.iter().map(|&group| group.to_owned()).collect();
            let mut all = Claims::from([(GROUPS.to_owned(), ClaimValue::List(groups))]);
            let text = |value: &str| ClaimValue::Text(value.to_owned());
            all.extend(claims.iter().map(|(name, value)| ((*name).to_owned(), text(value))));
            Identity::new("alice", "local", &all).expect("a plain identity packs")
        };
        let old =
            identity(&["ops", "dev", "a,b"], &[(EMAIL, "a@example.com"), ("city", "Rome"), ("plan", "x")]);
        for (new, expected) in [
            (old.clone(), old.clone()),
            (identity(&["dev", "ops"], &[]), identity(&["dev", "ops"], &[])),
            (identity(&["board"], &[("city", "Rome")]), identity(&[], &[("city", "Rome")])),
            (identity(&["a", "b", "a,b"], &[("city", "Oslo")]), identity(&["a,b"], &[])),
            (identity(&["dev"], &[("town", "Rome"), ("plan", "x")]), identity(&["dev"], &[("plan", "x")])),
        ] {
            assert!(new.as_ref().common(old.as_ref()) == expected, "{:?}", new.packed());
        }
    }

    #[test]
    fn nobody_is_refused() {
        assert_eq!(Identity::new("", "local", &Claims::new()), Err(IdentityError::EmptySubject));
    }

    proptest! {
        #[test]
        fn the_header_form_is_one_to_one_and_visible_ascii(a in ".*", b in ".*") {
            prop_assert_eq!(decode(&encode_text(&a)), a.as_str());
            prop_assert_eq!(decode(&encode_item(&a)), a.as_str());
            prop_assert_eq!(a == b, encode_item(&a) == encode_item(&b));
            prop_assert!(encode_text(&a).bytes().all(|byte| (0x20..=0x7E).contains(&byte)));
            prop_assert!(!encode_item(&a).contains(','));
        }
    }
}
