//! The decision about one request: pass, with whose identity, or why not.
//!
//! [`decide`] is pure and the only maker of an [`Admission`]. Without one nothing is forwarded: `proxy/forward.rs` asks for it by
//! type. What a request presented was looked up before; here it is only weighed.

use crate::domain::access::{Access, EntryId, Preflight, Protected};
use crate::domain::age;
use crate::domain::certificate::ClientCertificate;
use crate::domain::head::HeadRejection;
use crate::domain::identity::{Identity, IdentityRef};
use crate::domain::policy::Circumstances;
use crate::domain::possession::{self, Unproved};
use crate::domain::session::{Cause, Session};
use crate::domain::time::Timestamp;
use crate::domain::token_facts::TokenFacts;
use http::Method;
use std::sync::Arc;
use std::time::Duration;

/// A bearer token that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// Whom it names.
    pub identity: Identity,
    /// Its `exp` (RFC 7519 §4.1.4).
    pub expires_at: Timestamp,
    /// The entry of `tokens` that verified it.
    pub entry: EntryId,
    /// When that was, by the wall clock.
    pub verified_at: Timestamp,
    /// What it says about itself.
    pub token: TokenFacts,
}

/// What a request proved.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A live session, from its cookie.
    Session(Session),
    /// A believed bearer token.
    Token(Arc<Believed>),
}

impl Credential {
    /// Whom it names.
    pub fn identity(&self) -> IdentityRef<'_> {
        match self {
            Self::Session(session) => session.identity(),
            Self::Token(token) => token.identity.as_ref(),
        }
    }

    /// The session, if it is one.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::Token(_) => None,
        }
    }

    /// Whether it is this very one, not merely one that says the same.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Session(session), Self::Session(other)) => session.is(other),
            (Self::Token(token), Self::Token(other)) => Arc::ptr_eq(token, other),
            _ => false,
        }
    }
}

/// What a request brought, after look-up.
#[derive(Clone, Debug)]
pub enum Presented {
    /// No credential that counts on this route, or one that is not live, and why.
    Nothing(Cause),
    /// A credential.
    Credential(Credential),
    /// A bearer token that is not believed; the reason is for the log.
    BadBearer(&'static str),
    /// A bearer token of which nobody can say at the moment whether it is believed; why, is for the log.
    Unjudged(&'static str),
    /// A believed bearer token whose proof of possession does not count.
    Unproved(Unproved),
}

/// How the answer to a refused request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Navigation {
    /// A browser opens a page: it can be sent elsewhere.
    Page,
    /// A browser sends a form: it gets a page, for a redirect would lose the form.
    Form,
    /// A script or another program.
    None,
}

/// The facts about a request besides its credential.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// `Upgrade` is asked for.
    pub upgrade: bool,
    /// A browser says that another site's page caused it ([`crate::domain::origin::is_foreign`]); asked only where that
    /// matters: unsafe methods and upgrades.
    pub foreign: bool,
    /// It is a CORS preflight: OPTIONS with `Origin` and `Access-Control-Request-Method`.
    pub preflight: bool,
    /// What the client has proved to hold when the connection was opened.
    pub certificate: Option<&'a ClientCertificate>,
    /// The instant for sessions.
    pub now: Timestamp,
    /// The instant for what tokens say; told only where `allow` asks how long ago somebody was authenticated.
    pub wall: Option<Timestamp>,
    /// The thumbprint of the key that has signed a `DPoP` proof for this very request.
    pub proved_key: Option<[u8; 32]>,
}

/// Why a request was turned away.
///
/// `Display` is for the client and gives nothing away: a token that never was, ran out or was revoked reads the
/// same. [`Rejection::reason`] is for the log and the counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The request can be read in more than one way; the reason is a word for the log.
    #[error("this request is malformed")]
    BadRequest(&'static str),
    /// The head breaks a rule or a bound that holds for heads of every protocol.
    #[error("{0}")]
    Head(HeadRejection),
    /// No route has this host and path. Likely cause: a host missing from `routes`.
    #[error("there is no such page")]
    NoRoute,
    /// Routes have this host and path, but for other methods.
    #[error("this address does not take this method")]
    Method(Vec<Method>),
    /// The route wants a credential and the request brought none that is live.
    #[error("please sign in")]
    Unauthenticated(Cause),
    /// The bearer token is not believed; the reason is a word for the log.
    #[error("the access token is not valid")]
    BadBearer(&'static str),
    /// Nobody can say at the moment whether the bearer token is believed: its issuer cannot be asked. Why, is a word for the
    /// log.
    #[error("it cannot be said at the moment whether the access token is valid")]
    Unjudged(&'static str),
    /// The bearer token was not proved to be its presenter's.
    #[error("the access token came without a proof that counts")]
    Unproved(Unproved),
    /// Whom the token names was authenticated longer ago than this, or nobody knows when (RFC 9470 §3).
    #[error("a more recent sign-in is needed")]
    StaleToken(Duration),
    /// The token lacks one of these scopes and nothing else (RFC 6750 §3.1).
    #[error("the access token is not good for this")]
    Scope(Box<str>),
    /// The identity is known and the route's rule does not admit it.
    #[error("you may not see this page")]
    Forbidden,
    /// The route is not for clients with this address.
    #[error("you may not see this page from where you are")]
    ClientAddress,
    /// More requests than the route's rate allows; after so long one more is.
    #[error("too many requests; try again in {} s", .0.as_millis().div_ceil(1000).max(1))]
    TooMany(Duration),
    /// Another site's page made the browser send this.
    #[error("this request came from another site")]
    Foreign,
    /// A form without its proof of origin.
    #[error("this form is too old or came from elsewhere; open the page again")]
    BadForm(&'static str),
    /// The connection was opened for another host, or proves a client's certificate by rules that are not in force any more.
    #[error("this connection was opened for something else; open another one")]
    Misdirected,
    /// The body is larger than its bound.
    #[error("this request is too large")]
    TooLarge,
    /// The body needs a length.
    #[error("this request needs a Content-Length")]
    LengthRequired,
    /// The body did not arrive in time.
    #[error("this request took too long to arrive")]
    TooSlow,
    /// No more sessions can be opened.
    #[error("no more sign-ins are possible at the moment")]
    SessionsFull,
    /// The subject has as many sessions as it may have.
    #[error("you are signed in at as many places as you may be; sign out at one of them")]
    SubjectFull,
    /// The store cannot write what this answer would promise.
    #[error("this cannot be kept at the moment")]
    StoreUnavailable,
    /// No server of the upstream can have the request: no address is known, all are down, or all have as much to do as they
    /// may; which, is a word for the log.
    #[error("the application is not available at the moment")]
    NoServer(&'static str),
    /// The upstream could not be reached, or its answer could not be used; which is a word for the log.
    #[error("the application does not answer")]
    Upstream(&'static str),
    /// The upstream took too long; which step is a word for the log.
    #[error("the application takes too long to answer")]
    UpstreamLate(&'static str),
    /// A fault of ours; what, is a word for the log.
    #[error("something went wrong here")]
    Internal(&'static str),
}

impl Rejection {
    /// A word for the log and the counter.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Head(rejection) => rejection.reason(),
            Self::BadRequest(reason)
            | Self::BadBearer(reason)
            | Self::Unjudged(reason)
            | Self::BadForm(reason)
            | Self::NoServer(reason)
            | Self::Upstream(reason)
            | Self::UpstreamLate(reason)
            | Self::Internal(reason) => reason,
            Self::NoRoute => "no_route",
            Self::Method(_) => "method",
            Self::Unauthenticated(cause) => cause.reason(),
            Self::Unproved(why) => why.reason(),
            Self::StaleToken(_) => "auth_age",
            Self::Scope(_) => "insufficient_scope",
            Self::Forbidden => "not_allowed",
            Self::ClientAddress => "client_address",
            Self::TooMany(_) => "rate",
            Self::Foreign => "cross_origin",
            Self::Misdirected => "misdirected",
            Self::TooLarge => "too_large",
            Self::LengthRequired => "length_required",
            Self::TooSlow => "too_slow",
            Self::SessionsFull => "sessions_full",
            Self::SubjectFull => "subject_full",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// The proof that a request may pass. Only [`decide`] makes one.
#[derive(Clone, Debug)]
pub struct Admission {
    credential: Option<Credential>,
}

impl Admission {
    /// What the request proved; nothing on public and optional routes.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }
}

/// A request that was turned away, and who sent it if that is known: for the log, never for an upstream.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// What the request had proved.
    pub credential: Option<Credential>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, credential: None }
    }
}

/// Weighs a request against its route's access.
///
/// A session counts only if the route lists the entry that opened it, and that entry still is what it was: its
/// fingerprint is compared, not its name. A cookie admits no unsafe method and no upgrade that another site caused;
/// a bearer token does, for no browser sends one by itself. A token that is bound to a key or a certificate counts only with
/// the proof of it.
pub fn decide(access: &Access, facts: Facts<'_>, presented: Presented) -> Result<Admission, Refused> {
    let Access::Protected(protected) = access else {
        return Ok(Admission { credential: None });
    };
    let credential = match presented {
        Presented::BadBearer(reason) => return Err(Rejection::BadBearer(reason).into()),
        Presented::Unjudged(reason) => return Err(Rejection::Unjudged(reason).into()),
        Presented::Unproved(why) => return Err(Rejection::Unproved(why).into()),
        Presented::Nothing(cause) => return without_credential(protected, facts, cause),
        Presented::Credential(credential) => credential,
    };
    if let Credential::Token(token) = &credential {
        // Nobody is known before: whoever holds a bound token need not be whom it names.
        let key = facts.proved_key.as_ref();
        possession::weigh(&token.token, protected.bindings, key, facts.certificate)
            .map_err(Rejection::Unproved)?;
    }
    let rejection = match &credential {
        Credential::Session(session)
            if session.is_anonymous() || !protected.sign_in.contains(&session.entry()) =>
        {
            return without_credential(protected, facts, Cause::OtherWay);
        }
        Credential::Session(_) if facts.foreign && (facts.upgrade || !facts.method.is_safe()) => {
            Rejection::Foreign
        }
        Credential::Token(token) if !protected.tokens.contains(&token.entry) => {
            Rejection::BadBearer("other_entry")
        }
        _ => {
            let circumstances = Circumstances {
                certificate: facts.certificate,
                authenticated_ago: protected.auth_age.and_then(|_| {
                    age::authenticated_ago(&credential, &protected.dated, facts.now, facts.wall)
                }),
                with_every_scope: false,
            };
            if protected.allow.holds(credential.identity(), &circumstances) {
                return Ok(Admission { credential: Some(credential) });
            }
            age::lacking(protected, &credential, circumstances)
        }
    };
    Err(Refused { rejection, credential: Some(credential) })
}

fn without_credential(protected: &Protected, facts: Facts<'_>, cause: Cause) -> Result<Admission, Refused> {
    if protected.optional || (facts.preflight && protected.preflight == Preflight::Forward) {
        Ok(Admission { credential: None })
    } else {
        Err(Rejection::Unauthenticated(cause).into())
    }
}
