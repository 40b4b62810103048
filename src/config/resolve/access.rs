//! `policies` and `access`: who may pass.

use super::super::problem::At;
use super::super::raw::{self, AccessWritten, Allow, OneOrMany};
use super::super::scalar::{Entries, Plain};
use super::super::suggest;
use super::Resolver;
use crate::auth::{JwtSettings, SignInSettings};
use crate::domain::access::{Access, EntryId, Preflight, Protected};
use crate::domain::certificate::{CertificateClaim, CertificateRule, parse_fingerprint};
use crate::domain::identity::{EMAIL, ENDS_AT, GROUPS, IDLE_UNTIL, Literal, SCOPE, SOURCE, SUBJECT};
use crate::domain::origin::Origin;
use crate::domain::policy::Rule;
use crate::domain::target::Host;
use std::collections::{BTreeMap, BTreeSet};

/// The word that stands for nobody in particular; no policy may have it as a name.
pub(super) const PUBLIC: &str = "public";

/// Who may pass, and what a route must know about it.
#[derive(Clone)]
pub(super) struct Rights {
    pub(super) access: Access,
    /// Names of `sign_in`, as listed.
    pub(super) ways: Vec<String>,
    /// Name spaces in which the subjects live.
    pub(super) sources: BTreeSet<String>,
    pub(super) same_people: bool,
}

impl Rights {
    pub(super) fn public() -> Self {
        Self { access: Access::Public, ways: Vec::new(), sources: BTreeSet::new(), same_people: false }
    }
}

/// Policies by name; `None` for one that is broken.
pub(super) type Policies = BTreeMap<String, Option<Rights>>;

impl<'a> Resolver<'a> {
    pub(super) fn policies(&mut self, sign_in: &[SignInSettings], tokens: &[JwtSettings]) -> Policies {
        let root = At::root().key("policies");
        let mut policies = Policies::new();
        for (name, written) in self.raw.policies.iter().flat_map(|policies| &policies.0) {
            let at = root.key(name);
            self.check_name(name, &at);
            if name == PUBLIC {
                self.notes.problem(&at, name, "is a word of its own in `access`", "write another name");
            }
            let rights = written.as_ref().map(|written| self.access_written(written, &at, sign_in, tokens));
            policies.insert(name.clone(), rights);
        }
        policies
    }

    /// Who may pass, written out in a policy or a route.
    pub(super) fn access_written(
        &mut self,
        raw: &AccessWritten,
        at: &At,
        sign_in: &[SignInSettings],
        tokens: &[JwtSettings],
    ) -> Rights {
        let (ways, token_names) = (self.way_names(raw, at), self.token_names(raw, at));
        if ways.is_empty() && token_names.is_empty() {
            let wrong = "lists no way in: nobody could pass";
            let spoilt = self.notes.spoilt(&at.key("sign_in")) || self.notes.spoilt(&at.key("tokens"));
            if !spoilt {
                self.notes.problem(
                    at,
                    "access",
                    wrong,
                    "write `sign_in: [NAME]` or `tokens: [NAME]`; for everybody, `access: public`",
                );
            }
        }
        let allow = self.allow(raw, at, !token_names.is_empty());
        let mut sources = BTreeSet::new();
        let mut ids = |found: Option<(EntryId, &str)>| {
            found.map(|(id, source)| {
                sources.insert(source.to_owned());
                id
            })
        };
        let way = |name: &String| {
            sign_in.iter().find(|way| way.name == *name).map(|way| (way.id, way.source.as_str()))
        };
        let token = |name: &String| {
            tokens.iter().find(|token| token.name == *name).map(|token| (token.id, token.issuer.as_str()))
        };
        let protected = Protected {
            sign_in: ways.iter().filter_map(|name| ids(way(name).or_else(|| token(name)))).collect(),
            tokens: token_names.iter().filter_map(|name| ids(token(name))).collect(),
            bindings: self.bindings(raw, at, !token_names.is_empty()),
            auth_age: allow.auth_age(),
            dated: ways.iter().filter_map(token).map(|(id, _)| id).collect(),
            allow,
            optional: raw.optional.unwrap_or(false),
            cross_origin: self.cross_origin(raw, at),
            preflight: match raw.preflight {
                Some(raw::Preflight::Forward) => Preflight::Forward,
                _ => Preflight::Refuse,
            },
        };
        let same_people = raw.same_people.unwrap_or(false);
        Rights { access: Access::Protected(protected), ways, sources, same_people }
    }

    fn way_names(&mut self, raw: &AccessWritten, at: &At) -> Vec<String> {
        let traded = self.traded_names();
        let own = self.raw.sign_in.iter().flat_map(Entries::names);
        let known: Vec<&str> = own.chain(traded.iter().copied()).collect();
        let others: Vec<&str> = self.raw.tokens.iter().flat_map(Entries::names).collect();
        let hint = "is an entry of `tokens`, which opens no sessions without `exchange: true`";
        let names =
            self.names("sign_in", raw.sign_in.as_deref(), &known, (&others, hint), &at.key("sign_in"));
        for name in names.iter().filter(|name| traded.contains(&name.as_str())) {
            self.use_name("tokens", name);
        }
        names
    }

    /// The entries of `tokens` that may be traded for sessions.
    fn traded_names(&self) -> Vec<&'a str> {
        let raw = self.raw;
        let entries = raw.tokens.iter().flat_map(Entries::sound);
        entries.filter(|(_, entry)| entry.exchange == Some(true)).map(|(name, _)| name).collect()
    }

    fn token_names(&mut self, raw: &AccessWritten, at: &At) -> Vec<String> {
        let known: Vec<&str> = self.raw.tokens.iter().flat_map(Entries::names).collect();
        let others: Vec<&str> = self.raw.sign_in.iter().flat_map(Entries::names).collect();
        let hint = "is an entry of `sign_in`, whose sessions come by cookie";
        self.names("tokens", raw.tokens.as_deref(), &known, (&others, hint), &at.key("tokens"))
    }

    /// The names that a list refers to, those that exist.
    fn names(
        &mut self,
        section: &'static str,
        list: Option<&[Option<String>]>,
        known: &[&str],
        (others, hint): (&[&str], &str),
        at: &At,
    ) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (index, name) in list.into_iter().flatten().enumerate() {
            let Some(name) = name else { continue };
            let at = at.item(index);
            if names.contains(name) {
                self.notes.problem(&at, name, "stands twice", "keep one of them");
            } else if known.contains(&name.as_str()) {
                self.use_name(section, name);
                names.push(name.clone());
            } else if others.contains(&name.as_str()) {
                let remedy =
                    if section == "sign_in" { "move it to `tokens`" } else { "move it to `sign_in`" };
                self.notes.problem(&at, name, hint, remedy);
            } else {
                let remedy = if known.is_empty() {
                    format!("write the entry `{section}.{name}`")
                } else {
                    suggest::remedy(name, known.iter().copied())
                };
                self.notes.problem(&at, name, format!("is no entry of `{section}`"), remedy);
            }
        }
        names
    }

    fn allow(&mut self, raw: &AccessWritten, at: &At, with_tokens: bool) -> Rule {
        match &raw.allow {
            Some(Allow::Word(_)) => Rule::Everyone,
            Some(Allow::Rule(rule)) => self.rule(rule, &at.key("allow")),
            None => {
                if with_tokens {
                    let wrong = "is missing: whoever the issuer gives a token would pass";
                    let remedy = "write `allow: { groups: [ops] }` or another rule; for all of them, `allow: everyone`";
                    self.notes.missing(at, "allow", wrong, remedy);
                }
                Rule::Everyone
            }
        }
    }

    fn rule(&mut self, raw: &raw::Rule, at: &At) -> Rule {
        let keys = [
            ("all", raw.all.is_some()),
            ("any", raw.any.is_some()),
            ("not", raw.not.is_some()),
            (SUBJECT, raw.subject.is_some()),
            (SOURCE, raw.source.is_some()),
            (GROUPS, raw.groups.is_some()),
            (EMAIL, raw.email.is_some()),
            ("email_domain", raw.email_domain.is_some()),
            (SCOPE, raw.scope.is_some()),
            ("auth_age", raw.auth_age.is_some()),
            ("claims", raw.claims.is_some()),
            ("client_certificate", raw.client_certificate.is_some()),
        ];
        let present: Vec<&str> = keys.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect();
        match present.as_slice() {
            [_] => {}
            [] => {
                let remedy = "write one of `all`, `any`, `not`, `subject`, `source`, `groups`, `email`, `email_domain`, `scope`, `auth_age`, `claims`, `client_certificate`";
                self.notes.problem(at, "{}", "says nothing", remedy);
            }
            [first, second, ..] => {
                let wrong = format!("stands beside `{first}`, and it is not said whether both must hold");
                let remedy = format!("write `all: [{{ {first}: … }}, {{ {second}: … }}]`, or `any: […]`");
                self.notes.problem(&at.key(second), second, wrong, remedy);
            }
        }
        if let Some(rules) = &raw.all {
            return Rule::All(self.rules(rules, &at.key("all")));
        }
        if let Some(rules) = &raw.any {
            return Rule::Any(self.rules(rules, &at.key("any")));
        }
        if let Some(rule) = &raw.not {
            let rule = self.rule(rule, &at.key("not"));
            self.no_age_under_not(&rule, &at.key("not"));
            return Rule::Not(Box::new(rule));
        }
        if let Some(domains) = &raw.email_domain {
            return self.email_domains(domains, &at.key("email_domain"));
        }
        if let Some(certificate) = &raw.client_certificate {
            return self.client_certificate(certificate, &at.key("client_certificate"));
        }
        if let Some(scopes) = &raw.scope {
            return self.scope_rule(scopes, &at.key(SCOPE));
        }
        if let Some(age) = &raw.auth_age {
            return self.auth_age_rule(age, &at.key("auth_age"));
        }
        if let Some(claims) = &raw.claims {
            return self.claims(claims, &at.key("claims"));
        }
        let plain =
            [(SUBJECT, &raw.subject), (SOURCE, &raw.source), (GROUPS, &raw.groups), (EMAIL, &raw.email)];
        for (name, values) in plain {
            if let Some(values) = values {
                return self.claim(name, values, &at.key(name));
            }
        }
        // Said above; a rule that nobody meets stands in, and the file is not in force anyway.
        Rule::Any(Vec::new())
    }

    fn client_certificate(&mut self, raw: &raw::CertificateAsked, at: &At) -> Rule {
        let rule = match raw {
            raw::CertificateAsked::Word(_) => Rule::Certificate(CertificateRule::Any),
            raw::CertificateAsked::Written(written) => self.certificate_written(written, at),
        };
        self.certificates_are_asked_for(at);
        rule
    }

    fn certificate_written(&mut self, written: &raw::CertificateWritten, at: &At) -> Rule {
        let remedy = "write `any`, `{ subject: \"CN=alice,O=Example\" }` or `{ fingerprint: … }`";
        match (&written.subject, &written.fingerprint) {
            (Some(subjects), None) => {
                if subjects.is_empty() || subjects.iter().any(|(_, subject)| subject.is_empty()) {
                    self.notes.problem(&at.key("subject"), "subject", "is empty", remedy);
                }
                let listed = subjects.iter().map(|(_, subject)| subject.clone()).collect();
                Rule::Certificate(CertificateRule::Subject(listed))
            }
            (None, Some(fingerprints)) => {
                let at = at.key("fingerprint");
                if fingerprints.is_empty() {
                    self.notes.problem(&at, "fingerprint", "is empty", remedy);
                }
                let mut listed = Vec::new();
                for (index, text) in fingerprints.iter() {
                    match parse_fingerprint(text) {
                        Some(fingerprint) => listed.push(fingerprint),
                        None => self.notes.problem(
                            &index.map_or(at.clone(), |index| at.item(index)),
                            text,
                            "is no SHA-256 fingerprint",
                            "write the 64 hex digits of `openssl x509 -noout -fingerprint -sha256 -in FILE`",
                        ),
                    }
                }
                Rule::Certificate(CertificateRule::Fingerprint(listed))
            }
            _ => {
                let wrong = "needs exactly one of `subject` and `fingerprint`";
                self.notes.problem(at, "client_certificate", wrong, remedy);
                Rule::Any(Vec::new())
            }
        }
    }

    fn rules(&mut self, raw: &[Option<raw::Rule>], at: &At) -> Vec<Rule> {
        if raw.is_empty() {
            self.notes.problem(at, "[]", "is an empty list of rules", "write rules, or `allow: everyone`");
        }
        let sound = raw.iter().enumerate().filter_map(|(index, rule)| Some((index, rule.as_ref()?)));
        sound.map(|(index, rule)| self.rule(rule, &at.item(index))).collect()
    }

    fn claims(&mut self, raw: &Entries<OneOrMany<Plain>>, at: &At) -> Rule {
        if raw.0.len() != 1 {
            let remedy = "write one claim in each `claims`, and combine them with `all` or `any`";
            self.notes.problem(at, "claims", "needs exactly one claim", remedy);
        }
        match raw.sound().next() {
            Some((name, values)) => self.claim(name, values, &at.key(name)),
            None => Rule::Any(Vec::new()),
        }
    }

    pub(super) fn claim(&mut self, name: &str, values: &OneOrMany<Plain>, at: &At) -> Rule {
        if values.is_empty() || values.iter().any(|(_, value)| value.0.is_empty()) {
            self.notes.problem(
                at,
                name,
                "has an empty value, which no claim has",
                "write the values that may pass",
            );
        }
        if name.is_empty() || name.len() > 255 {
            self.notes.problem(at, name, "is not a claim's name", "write 1 to 255 bytes");
        }
        if [IDLE_UNTIL, ENDS_AT].contains(&name) {
            let wrong = "is when a session ends, which says nothing about its subject";
            self.notes.problem(
                at,
                name,
                wrong,
                "leave it out: sessions end by `sessions`, tokens by their `exp`",
            );
        }
        if CertificateClaim::named(name).is_some() {
            let remedy = "write `client_certificate: { subject: … }` or `{ fingerprint: … }`";
            self.notes.problem(at, name, "is of the connection, and no claim of anybody's", remedy);
        }
        if name == SOURCE {
            self.sources_are_known(values, at);
        }
        let any_of = values.iter().map(|(_, value)| Literal::new(&value.0)).collect();
        Rule::Claim { name: name.to_owned(), any_of }
    }

    /// A source that no entry has would make a rule that never holds, or under `not` always.
    fn sources_are_known(&mut self, values: &OneOrMany<Plain>, at: &At) {
        let ways = self.raw.sign_in.iter().flat_map(Entries::names);
        let tokens = self.raw.tokens.iter().flat_map(|tokens| &tokens.0);
        let issuers = tokens.map(|(name, token)| match token.as_ref()? {
            raw::Token { introspection: Some(asked), .. } => Some(asked.issuer.as_deref().unwrap_or(name)),
            token => token.jwt.as_ref()?.issuer.as_deref(),
        });
        // Where an issuer is missing, nobody can say which sources there are.
        let Some(known) = ways.map(Some).chain(issuers).collect::<Option<Vec<&str>>>() else { return };
        for (index, Plain(text)) in values.iter().filter(|(_, value)| !value.0.is_empty()) {
            if !known.contains(&text.as_str()) {
                let at = index.map_or(at.clone(), |index| at.item(index));
                let remedy = suggest::remedy(text, known.iter().copied());
                self.notes.problem(
                    &at,
                    text,
                    "is no source: neither a name of `sign_in` nor an issuer",
                    remedy,
                );
            }
        }
    }

    fn email_domains(&mut self, raw: &OneOrMany<Plain>, at: &At) -> Rule {
        let mut domains = Vec::new();
        if raw.is_empty() {
            self.notes.problem(at, "email_domain", "is empty", "write a domain, such as `example.com`");
        }
        for (index, Plain(text)) in raw.iter() {
            let at = index.map_or(at.clone(), |index| at.item(index));
            let host = Host::parse(text.as_bytes()).ok();
            let domain = host.filter(|host| host.port().is_none() && !text.ends_with('.'));
            if let Some(domain) = domain {
                domains.push(domain.name().to_owned());
                continue;
            }
            let remedy = match text.rsplit_once(['@', '*']) {
                Some((_, domain)) => format!("write `{}`", domain.trim_start_matches('.')),
                None => "write it like `example.com`; one beyond ASCII in its `xn--` form".to_owned(),
            };
            self.notes.problem(&at, text, "is not a domain", remedy);
        }
        Rule::EmailDomain(domains)
    }

    fn cross_origin(&mut self, raw: &AccessWritten, at: &At) -> Box<[Origin]> {
        let at = at.key("cross_origin");
        let mut origins = Vec::new();
        for (index, text) in raw.cross_origin.iter().flatten().enumerate() {
            let Some(text) = text else { continue };
            if let Ok(origin) = Origin::parse(text) {
                origins.push(origin);
                continue;
            }
            let wrong = if text.contains('*') { "stands for several origins" } else { "is not an origin" };
            let remedy = "write each as scheme and host: `https://app.example.com`";
            self.notes.problem(&at.item(index), text, wrong, remedy);
        }
        origins.into()
    }
}
