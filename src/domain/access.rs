//! What a route asks of those who want to pass.

use crate::domain::origin::Origin;
use crate::domain::policy::Rule;
use crate::domain::possession::Bindings;
use std::time::Duration;

/// A fingerprint of one entry of `sign_in` or `tokens`: its name and what defines it (file, issuer, client).
///
/// A session remembers the one by which it was opened. When a reload gives an entry of the same name another
/// definition, the fingerprint differs and the old sessions no longer pass on its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId(pub u64);

/// Who may pass on a route.
#[derive(Clone, Debug)]
pub enum Access {
    /// Anybody; no identity is passed on.
    Public,
    /// Only an identity that the rule admits.
    Protected(Protected),
}

/// The conditions of a protected route.
#[derive(Clone, Debug)]
pub struct Protected {
    /// Sessions opened by one of these pass.
    pub sign_in: Box<[EntryId]>,
    /// Bearer tokens believed by one of these pass.
    pub tokens: Box<[EntryId]>,
    /// How every token must be bound to whoever presents it.
    pub bindings: Bindings,
    /// What must hold of the identity.
    pub allow: Rule,
    /// The shortest age of an authentication that `allow` asks for, so that ages are reckoned only where one is.
    pub auth_age: Option<Duration>,
    /// Those of `sign_in` whose sessions say themselves when the subject was authenticated (`auth_time`): that they were opened
    /// proves nothing of it. They were traded for tokens.
    pub dated: Box<[EntryId]>,
    /// A request without any credential passes too, without identity.
    pub optional: bool,
    /// Origins besides our own whose unsafe requests a cookie may admit.
    pub cross_origin: Box<[Origin]>,
    /// What happens to a CORS preflight, which never carries a credential.
    pub preflight: Preflight,
}

/// `preflight` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// It is refused like any request without a credential.
    Refuse,
    /// It goes to the upstream, without identity.
    Forward,
}
