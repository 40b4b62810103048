//! The visitor's fields go to the upstream; they are not copied for it.
//!
//! pingora clones the head that a visitor sent and gives the clone to the filters, though once the request is decided hardly anybody
//! looks at the original again. So the fields leave it right before it is cloned ([`Lending::lend`]) and join the clone
//! ([`Lending::take`]). Who wants to see them after that (a second try, a page or a cookie of ours) has them read again
//! from the bytes that they came in ([`Lending::give_back`]).
//!
//! Only what came over HTTP/1 in its canonical form, with no body and no wish for another protocol, is lent: in every other head pingora, or
//! the way back, looks for more.

use crate::net::fields;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::RequestHeader;
use std::mem;

/// Where the fields of the visitor's request are.
#[derive(Debug, Default)]
pub(crate) enum Lending {
    /// In their head, which is cloned as it is.
    #[default]
    Never,
    /// In their head; these bytes say the same.
    Home(Bytes),
    /// Between the head and its clone.
    Away(Bytes, HeaderMap),
    /// With the upstream.
    Gone(Bytes),
}

impl Lending {
    /// `bytes`: what the fields can be read from again, if they can.
    pub(crate) fn of(bytes: Option<Bytes>) -> Self {
        bytes.map_or(Self::Never, Self::Home)
    }

    /// The request is plain ([`Framing::is_plain`](crate::domain::head::Framing::is_plain)), and its head has its fields.
    pub(crate) fn is_home(&self) -> bool {
        matches!(self, Self::Home(_))
    }

    /// Takes the fields out of their head.
    pub(crate) fn lend(&mut self, head: &mut RequestHeader) {
        *self = match mem::take(self) {
            Self::Home(bytes) => Self::Away(bytes, fields::exchange(head, HeaderMap::new())),
            other => other,
        };
    }

    /// What was taken out of the head, if anything was.
    pub(crate) fn take(&mut self) -> Option<HeaderMap> {
        match mem::take(self) {
            Self::Away(bytes, fields) => {
                *self = Self::Gone(bytes);
                Some(fields)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Sees to it that the head has its fields.
    pub(crate) fn give_back(&mut self, head: &mut RequestHeader) {
        let (bytes, fields) = match mem::take(self) {
            Self::Away(bytes, fields) => (bytes, fields),
            Self::Gone(bytes) => {
                let fields = fields::read_again(&bytes);
                (bytes, fields)
            }
            other => {
                *self = other;
                return;
            }
        };
        fields::exchange(head, fields);
        *self = Self::Home(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\nCookie: b=c\r\nX-D: e\r\nx-d: f\r\n\r\n";

    fn told(head: &RequestHeader) -> Vec<(String, String)> {
        let text = |value: &http::HeaderValue| value.to_str().expect("visible ASCII").to_owned();
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    #[test]
    fn what_was_lent_comes_back_as_it_was() {
        let bytes = Bytes::from_static(HEAD);
        let mut head = RequestHeader::build("GET", b"/a", None).expect("the target parses");
        fields::exchange(&mut head, fields::read_again(&bytes));
        let before = told(&head);
        assert_eq!(before.len(), 4);
        let mut lending = Lending::of(Some(bytes));
        lending.give_back(&mut head);
        assert_eq!(told(&head), before, "nothing was lent");
        lending.lend(&mut head);
        assert!(head.headers.is_empty());
        lending.give_back(&mut head);
        assert_eq!(told(&head), before, "nobody took it");
        lending.lend(&mut head);
        assert_eq!(lending.take().map(|fields| fields.len()), Some(4));
        assert!(head.headers.is_empty() && lending.take().is_none());
        lending.give_back(&mut head);
        assert_eq!((told(&head), head.raw_path()), (before, &b"/a"[..]));
    }

    #[test]
    fn what_cannot_be_read_again_stays() {
        let mut head = RequestHeader::build("GET", b"/a", None).expect("the target parses");
        head.insert_header("X-D", "e").expect("a header value");
        let mut lending = Lending::of(None);
        lending.lend(&mut head);
        assert!(lending.take().is_none() && head.headers.len() == 1);
        lending.give_back(&mut head);
        assert_eq!(head.headers.len(), 1);
    }
}
