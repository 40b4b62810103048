//! What is asked of tokens once an entry believes them.

use super::super::problem::At;
use super::super::raw::{self, AccessWritten, Binding};
use super::super::scalar::Entries;
use super::Resolver;
use crate::auth::JwtSettings;
use crate::auth::dpop::DpopSettings;
use crate::auth::terms::TokenTerms;
use crate::domain::possession::Bindings;
use std::time::Duration;

/// Long enough for a request that waits in a queue; whoever steals a proof has as long.
const PROOF_AGE: Duration = Duration::from_mins(1);
const PROOF_AGE_MAX: Duration = Duration::from_mins(10);
/// Longer than a token that is good for a year.
const LIFETIME: Duration = Duration::from_hours(400 * 24);
const LIFETIME_MAX: Duration = Duration::from_hours(3650 * 24);

impl Resolver<'_> {
    /// The terms of the entries that are sound.
    pub(super) fn token_terms(&mut self, tokens: &[JwtSettings]) -> Vec<TokenTerms> {
        let root = At::root().key("tokens");
        let raw = self.raw;
        let mut terms = Vec::new();
        for (name, entry) in raw.tokens.iter().flat_map(Entries::sound) {
            let at = root.key(name);
            let dpop = self.dpop(entry.dpop.as_ref(), &at.key("dpop"));
            let lifetime_max = self.lifetime_max(entry, &at.key("max_lifetime"));
            if let Some(settings) = tokens.iter().find(|settings| settings.name == *name) {
                let exchange = entry.exchange.unwrap_or(false);
                let dpop = DpopSettings { leeway: settings.leeway, ..dpop };
                let (id, name, source) = (settings.id, name.to_owned(), settings.issuer.clone());
                terms.push(TokenTerms { id, name, source, lifetime_max, exchange, dpop });
            }
        }
        terms
    }

    /// Sessions that tokens are traded for need a route that takes them; else none are opened.
    pub(super) fn exchanges_lead_somewhere(&mut self, mut terms: Vec<TokenTerms>) -> Vec<TokenTerms> {
        let spoilt = self.notes.spoilt(&At::root().key("routes"));
        for entry in terms.iter_mut().filter(|entry| entry.exchange && !spoilt) {
            if !self.used.contains(&("sign_in", entry.name.clone())) {
                entry.exchange = false;
                let at = At::root().key("tokens").key(&entry.name).key("exchange");
                let wrong = "opens no sessions: no route lists the entry in `sign_in`";
                let remedy =
                    format!("write `sign_in: [{}]` in the access of a route, or leave it out", entry.name);
                self.notes.warn(&at, "exchange", wrong, remedy);
            }
        }
        terms
    }

    fn lifetime_max(&mut self, raw: &raw::Token, at: &At) -> Duration {
        let written = raw.max_lifetime.as_ref();
        let lifetime_max = self.positive(written, LIFETIME, at);
        if let Some(written) = written.filter(|_| lifetime_max > LIFETIME_MAX) {
            let wrong = "is longer than a revocation is remembered for";
            self.notes.problem(at, &written.text, wrong, "write at most `3650d`");
        }
        lifetime_max
    }

    fn dpop(&mut self, raw: Option<&raw::Dpop>, at: &At) -> DpopSettings {
        let written = raw.and_then(|dpop| dpop.max_age.as_ref());
        let max_age = self.positive(written, PROOF_AGE, &at.key("max_age"));
        if let Some(written) = written.filter(|_| max_age > PROOF_AGE_MAX) {
            let wrong = "is longer than proofs are for";
            self.notes.problem(&at.key("max_age"), &written.text, wrong, "write at most `10m`");
        }
        let nonce = raw.and_then(|dpop| dpop.nonce).unwrap_or(false);
        DpopSettings { max_age, leeway: Duration::ZERO, nonce }
    }

    /// `proof` of an access.
    pub(super) fn bindings(&mut self, raw: &AccessWritten, at: &At, takes_tokens: bool) -> Bindings {
        let Some(listed) = &raw.proof else { return Bindings::default() };
        let at = at.key("proof");
        let asked = |wanted| listed.iter().flatten().any(|binding| *binding == wanted);
        let bindings = Bindings { dpop: asked(Binding::Dpop), certificate: asked(Binding::Certificate) };
        if listed.is_empty() {
            let remedy = "write `[dpop]`, `[certificate]`, or both for either; or leave it out";
            self.notes.problem(&at, "proof", "is empty", remedy);
        } else if !takes_tokens {
            let wrong = "is asked of tokens, and none are listed";
            self.notes.problem(&at, "proof", wrong, "write `tokens: [NAME]`, or leave it out");
        }
        if bindings.certificate && !bindings.dpop {
            self.certificates_are_asked_for(&at);
        }
        bindings
    }
}
