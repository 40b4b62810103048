//! What the last request of a connection was given, for the next one: browsers send the same cookies again and again, and are the same person.
//!
//! Nothing here admits anybody. Every request is decided anew; only then, if the very same session or token has admitted it under the
//! very same configuration, is what was written for it not written once more. Fields are the same if they are one value in memory, which
//! those of lines that are [known](crate::net::known) of a connection are. A connection keeps one recollection; exchanges of HTTP/2, which
//! have links of their own, keep none.

use crate::domain::decision::{Believed, Credential};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::token::TokenDigest;
use http::HeaderValue;
use std::sync::Arc;

/// What depends on the configuration and on who was admitted.
pub struct Recall {
    /// The configuration's number, and the upstream's in it.
    under: (u64, usize),
    /// Held, so that nobody else comes to be at its address.
    credential: Credential,
    identity: Box<[Option<HeaderValue>]>,
    /// A Cookie field, and what was left of it for the application.
    cookies: Option<(HeaderValue, HeaderValue)>,
}

impl Recall {
    /// Of a request that `credential` has admitted; `identity` has a value for each header that the upstream `under` gets.
    pub fn new(under: (u64, usize), credential: Credential, identity: Box<[Option<HeaderValue>]>) -> Self {
        Self { under, credential, identity, cookies: None }
    }

    /// Whether all of it was for this credential, configuration and upstream.
    pub fn is_of(&self, under: (u64, usize), credential: &Credential) -> bool {
        self.under == under && self.credential.is(credential)
    }

    /// The values of the identity headers, in the order of the file.
    pub fn identity(&self) -> &[Option<HeaderValue>] {
        &self.identity
    }

    /// What was left of these cookies.
    pub fn kept(&self, sent: &HeaderValue) -> Option<&HeaderValue> {
        let (known, kept) = self.cookies.as_ref()?;
        is(known, sent).then_some(kept)
    }

    /// Remembers what is left of these cookies.
    pub fn keep(&mut self, sent: HeaderValue, kept: HeaderValue) {
        self.cookies = Some((sent, kept));
    }
}

/// The token in a connection's last Authorization field: its fingerprint, which takes more instructions the longer it is, and who it was
/// believed to be of.
#[derive(Default)]
pub struct LastToken(Option<(HeaderValue, Seen)>);

/// What was found out about a token.
#[derive(Clone)]
pub struct Seen {
    /// Of the token.
    pub fingerprint: Fingerprint,
    /// What was believed, and the numbers of the settings and keys under which it was, if it can be again.
    pub believed: Option<([u64; 2], Arc<Believed>)>,
}

impl LastToken {
    /// What was found out about the token in this field, if it is that very field.
    pub fn seen(&self, authorization: &HeaderValue) -> Option<&Seen> {
        let (known, seen) = self.0.as_ref()?;
        is(known, authorization).then_some(seen)
    }

    /// Remembers it.
    pub fn remember(&mut self, authorization: HeaderValue, seen: Seen) {
        self.0 = Some((authorization, seen));
    }
}

/// The session token in a connection's last Cookie field, as its digest.
#[derive(Default)]
pub struct LastSession(Option<(HeaderValue, u64, TokenDigest)>);

impl LastSession {
    /// The digest of the token in this field, if it is that very field and was found under the configuration of this number.
    pub fn digest(&self, cookies: &HeaderValue, generation: u64) -> Option<TokenDigest> {
        let (known, under, digest) = self.0.as_ref()?;
        (*under == generation && is(known, cookies)).then_some(*digest)
    }

    /// Remembers it: the field has one session token, and a key of that configuration has made it.
    pub fn remember(&mut self, cookies: HeaderValue, generation: u64, digest: TokenDigest) {
        self.0 = Some((cookies, generation, digest));
    }
}

/// Whether both are one in memory. As long as one is held, nothing else is there.
fn is(one: &HeaderValue, other: &HeaderValue) -> bool {
    std::ptr::eq(one.as_bytes(), other.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::identity::{Claims, Identity};
    use crate::domain::time::Timestamp;

    fn token() -> Credential {
        let identity = Identity::new("alice", "api", &Claims::new()).expect("a short subject");
        let at = Timestamp::from_millis(0);
        Credential::Token(Arc::new(Believed {
            identity,
            expires_at: at,
            entry: EntryId(1),
            verified_at: at,
            token: crate::domain::token_facts::TokenFacts::default(),
        }))
    }

    #[test]
    fn it_is_of_one_credential_under_one_configuration_and_upstream() {
        let (alice, twin) = (token(), token());
        let recall =
            Recall::new((3, 1), alice.clone(), Box::new([Some(HeaderValue::from_static("alice")), None]));
        assert!(recall.is_of((3, 1), &alice.clone()));
        assert!(!recall.is_of((3, 1), &twin), "it says the same, and is another");
        assert!(!recall.is_of((4, 1), &alice) && !recall.is_of((3, 2), &alice));
    }

    #[test]
    fn the_same_fields_are_recalled() {
        let sent = |text: &'static [u8]| HeaderValue::from_bytes(text).expect("a header value");
        let cookies = sent(b"a=b; s=t");
        let mut recall = Recall::new((3, 1), token(), Box::new([]));
        assert_eq!(recall.kept(&cookies), None);
        recall.keep(cookies.clone(), HeaderValue::from_static("a=b"));
        assert_eq!(recall.kept(&cookies.clone()), Some(&HeaderValue::from_static("a=b")));
        assert_eq!(recall.kept(&sent(b"a=b; s=t")), None, "it may be the same, and is worked out again");

        let (mut last, known) = (LastToken::default(), sent(b"Bearer a"));
        let fingerprint = Fingerprint::from_bytes([7; 16]);
        last.remember(known.clone(), Seen { fingerprint, believed: None });
        assert!(last.seen(&known.clone()).is_some_and(|seen| seen.fingerprint == fingerprint));
        assert!(last.seen(&sent(b"Bearer a")).is_none());

        let (mut last, digest) = (LastSession::default(), TokenDigest::from_bytes([7; 32]));
        last.remember(cookies.clone(), 3, digest);
        assert_eq!(last.digest(&cookies.clone(), 3), Some(digest));
        assert_eq!(last.digest(&cookies, 4), None, "its key may be gone");
        assert_eq!(last.digest(&sent(b"a=b; s=t"), 3), None);
    }
}
