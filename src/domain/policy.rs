//! `allow`: what must hold of an identity, and of the connection that it came over.
//!
//! A rule looks at claims alone and is decided on their header form, so that nothing is decoded on a request's path.
//! A claim that is absent holds never. Under `not` that turns round: `not: { groups: guests }` admits a subject
//! without any groups. Where that is not meant, an `all` beside it names what must be there.

use crate::domain::certificate::{CertificateRule, ClientCertificate};
use crate::domain::identity::{Claim, EMAIL, IdentityRef, Literal, SCOPE};
use std::fmt;
use std::time::Duration;

/// What a rule looks at besides the claims.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances<'a> {
    /// What the client has shown on this connection.
    pub certificate: Option<&'a ClientCertificate>,
    /// How long ago the subject was authenticated; absent where nobody knows.
    pub authenticated_ago: Option<Duration>,
    /// As if the token had every scope: whether that is all that lacks.
    pub with_every_scope: bool,
}

/// What must hold of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Whoever was proven to be somebody.
    Everyone,
    /// Each of these; of none: everybody.
    All(Vec<Rule>),
    /// At least one of these; of none: nobody.
    Any(Vec<Rule>),
    /// This does not hold.
    Not(Box<Rule>),
    /// The claim is one of the values or, for a list, contains one.
    Claim {
        /// Its name; `subject` and `source` are claims like others.
        name: String,
        /// The values.
        any_of: Vec<Literal>,
    },
    /// The address in `email` is at one of these domains, which are lower-case ASCII (an IDN as its A-labels).
    ///
    /// Domains compare whole. A value that is not plainly one address matches none of them.
    EmailDomain(Vec<String>),
    /// The client has shown such a certificate on this connection.
    Certificate(CertificateRule),
    /// The subject was authenticated so long ago at most. Where nobody knows when, it does not hold.
    AuthAge(Duration),
}

impl Rule {
    /// Whether it holds of `identity` in these circumstances. Allocates nothing; recursion is as deep as the file nests.
    pub fn holds(&self, identity: IdentityRef<'_>, circumstances: &Circumstances<'_>) -> bool {
        match self {
            Self::Everyone => true,
            Self::All(rules) => rules.iter().all(|rule| rule.holds(identity, circumstances)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(identity, circumstances)),
            Self::Not(rule) => !rule.holds(identity, circumstances),
            Self::Certificate(rule) => rule.holds(circumstances.certificate),
            Self::AuthAge(most) => circumstances.authenticated_ago.is_some_and(|ago| ago <= *most),
            Self::Claim { name, .. } if circumstances.with_every_scope && name == SCOPE => true,
            Self::Claim { name, any_of } => {
                identity.claim(name).is_some_and(|claim| any_of.iter().any(|literal| claim.has(literal)))
            }
            Self::EmailDomain(domains) => match identity.claim(EMAIL) {
                Some(Claim::Text(email)) => domain_of(email)
                    .is_some_and(|domain| domains.iter().any(|listed| domain.eq_ignore_ascii_case(listed))),
                _ => false,
            },
        }
    }

    /// The shortest age of an authentication that some part asks for.
    pub fn auth_age(&self) -> Option<Duration> {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().filter_map(Self::auth_age).min(),
            Self::Not(rule) => rule.auth_age(),
            Self::AuthAge(most) => Some(*most),
            _ => None,
        }
    }

    /// The scopes that the parts ask for which do not hold, with spaces between, as a challenge writes them (RFC 6750 §3).
    pub fn lacking_scopes(&self, identity: IdentityRef<'_>) -> String {
        let mut lacking = Vec::new();
        self.gather_scopes(identity, &mut lacking);
        lacking.join(" ")
    }

    fn gather_scopes(&self, identity: IdentityRef<'_>, lacking: &mut Vec<String>) {
        match self {
            Self::All(rules) | Self::Any(rules) => {
                for rule in rules {
                    rule.gather_scopes(identity, lacking);
                }
            }
            Self::Claim { name, any_of }
                if name == SCOPE && !self.holds(identity, &Circumstances::default()) =>
            {
                for scope in any_of.iter().map(|literal| format!("{literal:?}")) {
                    if !lacking.contains(&scope) {
                        lacking.push(scope);
                    }
                }
            }
            _ => {}
        }
    }

    /// A rule of several parts, which another rule puts into brackets.
    fn is_compound(&self) -> bool {
        matches!(self, Self::All(rules) | Self::Any(rules) if rules.len() > 1)
    }
}

/// What follows the first `@` of an address in header form, or nothing where the part before it could belong to more
/// than one address. A second `@` stays in the domain, which then equals none that a file lists.
fn domain_of(email: &str) -> Option<&str> {
    let (local, domain) = email.split_once('@')?;
    let doubtful = |byte: u8| matches!(byte, b',' | b';' | b'<' | b'>' | b'(' | b')' | b'"' | b' ');
    (!local.is_empty() && !local.bytes().any(doubtful)).then_some(domain)
}

/// As a sentence for people: `groups ops or dev, and not subject bob`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone"),
            Self::All(rules) if rules.is_empty() => f.write_str("everyone"),
            Self::Any(rules) if rules.is_empty() => f.write_str("nobody"),
            Self::All(rules) => write_parts(f, rules, ", and "),
            Self::Any(rules) => write_parts(f, rules, ", or "),
            Self::Not(rule) => {
                f.write_str("not ")?;
                write_part(f, rule)
            }
            Self::Claim { name, any_of } => {
                write!(f, "{name} ")?;
                write_list(f, any_of.iter().map(|literal| format!("{literal:?}")))
            }
            Self::Certificate(CertificateRule::Any) => f.write_str("any client_certificate"),
            Self::Certificate(CertificateRule::Subject(subjects)) => {
                f.write_str("client_certificate subject ")?;
                write_list(f, subjects.iter())
            }
            Self::Certificate(CertificateRule::Fingerprint(fingerprints)) => {
                f.write_str("client_certificate fingerprint ")?;
                write_list(f, fingerprints.iter())
            }
            Self::AuthAge(most) => write!(f, "authenticated at most {} s ago", most.as_secs()),
            Self::EmailDomain(domains) => {
                f.write_str("email at ")?;
                write_list(f, domains.iter())
            }
        }
    }
}

fn write_parts(f: &mut fmt::Formatter<'_>, rules: &[Rule], between: &str) -> fmt::Result {
    if let [only] = rules {
        return write!(f, "{only}");
    }
    for (at, rule) in rules.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { between })?;
        write_part(f, rule)?;
    }
    Ok(())
}

fn write_part(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    match rule {
        // One part in a list of one stands for itself.
        Rule::All(rules) | Rule::Any(rules) if rules.len() == 1 => write_part(f, &rules[0]),
        rule if rule.is_compound() => write!(f, "({rule})"),
        rule => write!(f, "{rule}"),
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    for (at, item) in items.enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { " or " })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{ClaimValue, Claims, GROUPS, Identity};

    fn claim(name: &str, values: &[&str]) -> Rule {
        Rule::Claim {
            name: name.to_owned(),
            any_of: values.iter().map(|value| Literal::new(value)).collect(),
        }
    }

    fn at(domains: &[&str]) -> Rule {
        Rule::EmailDomain(domains.iter().map(|&domain| domain.to_owned()).collect())
    }

    fn not(rule: Rule) -> Rule {
        Rule::Not(Box::new(rule))
    }

    fn somebody(claims: &[(&str, ClaimValue)]) -> Identity {
        let claims: Claims = claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Identity::new("alice", "local", &claims).expect("a plain identity packs")
    }

    fn with_email(email: &str) -> Identity {
        somebody(&[(EMAIL, ClaimValue::Text(email.to_owned()))])
    }

    #[test]
    fn rules_hold_of_the_claims_that_are_there() {
        let groups = ClaimValue::List(vec!["ops".to_owned(), "a,b".to_owned()]);
        let alice = somebody(&[(GROUPS, groups), ("admin", ClaimValue::Bool(true))]);
        for (rule, expected) in [
            (Rule::Everyone, true),
            (claim(GROUPS, &["dev", "ops"]), true),
            (claim(GROUPS, &["a,b"]), true),
            (claim(GROUPS, &["a"]), false),
            (claim(GROUPS, &["ops,a%2Cb"]), false),
            (claim(GROUPS, &["OPS"]), false),
            (claim(GROUPS, &[]), false),
            (claim("subject", &["alice"]), true),
            (claim("source", &["other"]), false),
            (claim("admin", &["true"]), true),
            (claim("department", &["support"]), false),
            (not(claim("department", &["support"])), true),
            (at(&["example.com"]), false),
            (Rule::All(vec![claim(GROUPS, &["ops"]), claim("subject", &["bob"])]), false),
            (Rule::All(vec![claim(GROUPS, &["ops"]), not(claim("subject", &["bob"]))]), true),
            (Rule::Any(vec![claim("subject", &["bob"]), claim(GROUPS, &["ops"])]), true),
            (Rule::All(Vec::new()), true),
            (Rule::Any(Vec::new()), false),
        ] {
            assert_eq!(rule.holds(alice.as_ref(), &Circumstances::default()), expected, "{rule}");
        }
    }

    #[test]
    fn an_email_domain_compares_whole() {
        for (email, expected) in [
            ("alice@example.com", true),
            ("alice@EXAMPLE.com", true),
            ("alice+wiki@example.org", true),
            ("alice@evil-example.com", false),
            ("alice@sub.example.com", false),
            ("alice@example.com.evil.net", false),
            ("alice@example.com@evil.net", false),
            ("mallory@evil.net@example.com", false),
            ("\"mallory@evil.net\"@example.com", false),
            ("mallory@evil.net,alice@example.com", false),
            ("Alice <alice@example.com>", false),
            ("mallory, alice@example.com", false),
            ("alice@example.com\u{0}", false),
            ("@example.com", false),
            ("example.com", false),
        ] {
            let identity = with_email(email);
            assert_eq!(
                at(&["example.com", "example.org"]).holds(identity.as_ref(), &Circumstances::default()),
                expected,
                "{email}"
            );
        }
        let list = somebody(&[(EMAIL, ClaimValue::List(vec!["alice@example.com".to_owned()]))]);
        assert!(
            !at(&["example.com"]).holds(list.as_ref(), &Circumstances::default()),
            "a list is not an address"
        );
    }

    #[test]
    fn a_rule_reads_as_a_sentence() {
        let ops = || claim(GROUPS, &["ops", "dev"]);
        let bob = || claim("subject", &["李"]);
        for (rule, expected) in [
            (Rule::Everyone, "everyone"),
            (Rule::All(vec![ops(), not(bob())]), "groups ops or dev, and not subject 李"),
            (Rule::Any(vec![ops(), at(&["example.com"])]), "groups ops or dev, or email at example.com"),
            (
                Rule::All(vec![Rule::Any(vec![ops(), bob()]), not(Rule::All(vec![ops(), bob()]))]),
                "(groups ops or dev, or subject 李), and not (groups ops or dev, and subject 李)",
            ),
            (Rule::All(vec![Rule::Any(vec![ops()])]), "groups ops or dev"),
            (not(Rule::Any(vec![Rule::All(vec![ops(), bob()])])), "not (groups ops or dev, and subject 李)"),
            (Rule::Any(Vec::new()), "nobody"),
            (
                Rule::Certificate(CertificateRule::Subject(vec!["CN=a".to_owned(), "CN=b".to_owned()])),
                "client_certificate subject CN=a or CN=b",
            ),
        ] {
            assert_eq!(rule.to_string(), expected);
        }
    }
}
