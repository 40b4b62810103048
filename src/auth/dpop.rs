//! `DPoP` proofs (RFC 9449): a JWT that the client signs for one request, to show that it holds the key its token is bound to.
//!
//! The checks of §4.3 in an order that leaves the dear one, the signature, to the last but one: a proof by another key than
//! the token's, or for another request, costs no public-key operation. Whether it was used before is asked last, so that
//! nothing is remembered of a proof that does not count.
//!
//! What was used lives in memory, and so no longer than the process. A proof that may have been used before its start counts
//! only with a nonce of this process; a client that gets such a challenge sends the request again with one (§9).

#[cfg(test)]
mod examples;
mod nonces;
mod replays;

use crate::auth::facts::sha256;
use crate::auth::json::object;
use crate::auth::jwks;
use crate::auth::jwt::instant;
use crate::domain::access::EntryId;
use crate::domain::possession::Unproved;
use crate::domain::target::{Host, Target};
use crate::domain::time::Timestamp;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use nonces::Nonces;
use replays::Replays;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Longer proofs are not looked at: the largest RSA key and its signature take some 3 KiB.
const PROOF_BYTES_MAX: usize = 8 * 1024;
/// A wall clock that was set back by more has moved.
const STEP_MIN_MS: i64 = 1000;
/// What a proof may be signed with, as a challenge lists it (RFC 9449 §7.1).
pub const ALGORITHMS: &str = "ES256 ES384 Ed25519 EdDSA PS256 PS384 PS512 RS256 RS384 RS512";

/// What is asked of the proofs for tokens of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DpopSettings {
    /// How old a proof may be.
    pub max_age: Duration,
    /// How far the client's clock may differ.
    pub leeway: Duration,
    /// Every proof must have a nonce of ours.
    pub nonce: bool,
}

/// The request that a proof is to be for, as a browser would address it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, letter for letter.
    pub method: &'a str,
    /// `https`, else `http`.
    pub https: bool,
    /// The canonical host, without port.
    pub host: &'a str,
    /// The port that browsers see.
    pub port: u16,
    /// The canonical path, without query.
    pub path: &'a str,
    /// The token that came with it.
    pub token: &'a str,
}

/// What is remembered of proofs: one object for the life of the process.
pub struct DpopMemory {
    replays: Replays,
    nonces: Nonces,
    /// Milliseconds since 1970: up to here proofs may have been used that are not remembered.
    floor: AtomicU64,
    /// By how many milliseconds the wall clock was ahead of the process's own time at most, since it was set back last.
    ahead: AtomicI64,
    /// Another process remembers as well, and neither knows what the other does.
    follows: AtomicBool,
}

impl DpopMemory {
    /// Nothing is remembered; the process started at this wall time.
    ///
    /// # Panics
    ///
    /// If the operating system has no random bytes to give.
    pub fn new(started_at: Timestamp) -> Self {
        let floor = AtomicU64::new(started_at.as_millis());
        Self {
            replays: Replays::new(),
            nonces: Nonces::new(),
            floor,
            ahead: AtomicI64::new(i64::MIN),
            follows: AtomicBool::new(false),
        }
    }

    /// Proofs of until now may have been used at another process, from which this one takes over.
    pub fn begin(&self, wall: Timestamp) {
        self.floor.fetch_max(wall.as_millis(), Ordering::Relaxed);
    }

    /// Whether another process has taken over. While that is so every proof needs a nonce of this one, by which the other does
    /// not take it.
    pub fn follow(&self, follows: bool) {
        self.follows.store(follows, Ordering::SeqCst);
    }

    /// Up to when proofs may have been used that nobody remembers: the start, or what the wall clock would show had it not
    /// been set back, for proofs that are in time again by it may be forgotten by now.
    fn floor(&self, wall: Timestamp, now: Timestamp) -> Timestamp {
        let ahead = wall.as_millis().wrapping_sub(now.as_millis()).cast_signed();
        let most = self.ahead.fetch_max(ahead, Ordering::Relaxed);
        if ahead.saturating_add(STEP_MIN_MS) < most {
            let unmoved = now.as_millis().saturating_add_signed(most);
            self.floor.fetch_max(unmoved, Ordering::Relaxed);
            self.ahead.store(ahead, Ordering::Relaxed);
        }
        Timestamp::from_millis(self.floor.load(Ordering::Relaxed))
    }
}

/// Checks proofs, by the settings of one configuration.
pub struct Dpop {
    entries: Vec<(EntryId, DpopSettings)>,
    memory: Arc<DpopMemory>,
}

impl Dpop {
    /// The settings of each entry of `tokens`.
    pub fn new(entries: Vec<(EntryId, DpopSettings)>, memory: Arc<DpopMemory>) -> Self {
        Self { entries, memory }
    }

    /// A nonce for the next proof (RFC 9449 §9), made of `now`, the process's own time. Nothing is kept of it.
    pub fn nonce(&self, now: Timestamp) -> String {
        self.memory.nonces.issue(now)
    }

    /// Whether every proof for a token of this entry needs a nonce.
    pub fn asks_for_nonces(&self, entry: EntryId) -> bool {
        self.entries.iter().any(|(id, settings)| *id == entry && settings.nonce)
    }

    /// The nonce for the client's next proofs, if that of this one, which counted, is no longer new (RFC 9449 §8.2): so its next
    /// request need not be refused first.
    pub fn next_nonce(&self, proof: &[u8], now: Timestamp) -> Option<String> {
        let proof = Proof::read(proof).ok()?;
        let nonce = proof.claims.get("nonce")?.as_str()?;
        self.memory.nonces.is_ageing(nonce, now).then(|| self.nonce(now))
    }

    /// Checks that this proof is for this request, and by the key with the thumbprint `jkt`, to which the token of the entry
    /// is bound.
    ///
    /// `wall` is the wall clock, `now` the process's own time, which no step of the wall clock moves. Costs a signature
    /// verification (60 to 90 µs by ES256), for a proof that does not count mostly less.
    pub fn check(
        &self,
        proof: &[u8],
        request: &Request<'_>,
        (entry, jkt): (EntryId, &[u8; 32]),
        (wall, now): (Timestamp, Timestamp),
    ) -> Result<(), Unproved> {
        // An entry that is gone has no settings, and its tokens count for nothing.
        let settings = self.entries.iter().find(|(id, _)| *id == entry).map(|(_, settings)| settings);
        let settings = settings.ok_or(Unproved::OtherToken)?;
        let proof = Proof::read(proof)?;
        let jti = proof.is_for(request)?;
        let until = proof.is_in_time(settings, wall)?;
        let key = proof.key(jkt)?;
        self.is_fresh(&proof, settings, wall, now)?;
        let message = proof.signed.as_bytes();
        let signed = jsonwebtoken::crypto::verify(proof.signature, message, &key.verifies, proof.algorithm);
        if !signed.unwrap_or(false) {
            return Err(Unproved::Signature);
        }
        self.memory.replays.note(jkt, jti, now.plus(until.since(wall)), now)
    }

    /// Whether the proof has a nonce of this process, or needs none.
    fn is_fresh(
        &self,
        proof: &Proof<'_>,
        settings: &DpopSettings,
        wall: Timestamp,
        now: Timestamp,
    ) -> Result<(), Unproved> {
        if let Some(nonce) = proof.claims.get("nonce") {
            let nonce = nonce.as_str().ok_or(Unproved::Malformed)?;
            // One of another process is for that (§8): a process that took over from it takes no proof that was made for it.
            return if self.memory.nonces.is_good(nonce, now) { Ok(()) } else { Err(Unproved::Nonce) };
        }
        // By a clock that is ahead of ours it may have been made, and used, before the start.
        let may_be_used = proof.issued_at <= self.memory.floor(wall, now).plus(settings.leeway);
        let asks = settings.nonce || may_be_used || self.memory.follows.load(Ordering::SeqCst);
        if asks { Err(Unproved::Nonce) } else { Ok(()) }
    }
}

/// A proof, taken apart; nothing of it is believed yet.
struct Proof<'a> {
    algorithm: Algorithm,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    issued_at: Timestamp,
    signature: &'a str,
    /// Header and payload with the dot between.
    signed: &'a str,
}

impl<'a> Proof<'a> {
    fn read(text: &'a [u8]) -> Result<Self, Unproved> {
        let text = str::from_utf8(text).map_err(|_| Unproved::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Unproved::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Unproved::Malformed)?;
        if text.len() > PROOF_BYTES_MAX || payload.contains('.') {
            return Err(Unproved::Malformed);
        }
        let header = read_object(header)?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Unproved::Malformed);
        }
        let typ = header.get("typ").and_then(Value::as_str).ok_or(Unproved::Type)?;
        if !typ.eq_ignore_ascii_case("dpop+jwt") {
            return Err(Unproved::Type);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Unproved::Algorithm)?;
        // The list has no symmetric one, and no `none`.
        if !ALGORITHMS.split(' ').any(|known| known == algorithm) {
            return Err(Unproved::Algorithm);
        }
        let algorithm = jwks::algorithm(algorithm).ok_or(Unproved::Algorithm)?;
        let claims = read_object(payload)?;
        let issued_at = claims.get("iat").and_then(instant).ok_or(Unproved::Malformed)?;
        Ok(Self { algorithm, header, claims, issued_at, signature, signed })
    }

    /// Whether it was made for this request; gives its name.
    fn is_for(&self, request: &Request<'_>) -> Result<&str, Unproved> {
        let text = |name| self.claims.get(name).and_then(Value::as_str);
        let jti = text("jti").filter(|jti| !jti.is_empty()).ok_or(Unproved::Malformed)?;
        if text("htm").ok_or(Unproved::Malformed)? != request.method {
            return Err(Unproved::Method);
        }
        if !is_address(text("htu").ok_or(Unproved::Malformed)?, request) {
            return Err(Unproved::Address);
        }
        let hash = self.claims.get("ath").and_then(sha256).ok_or(Unproved::OtherToken)?;
        verify_slices_are_equal(&hash, digest(&SHA256, request.token.as_bytes()).as_ref())
            .map_err(|_| Unproved::OtherToken)?;
        Ok(jti)
    }

    /// Until when it may be used.
    fn is_in_time(&self, settings: &DpopSettings, wall: Timestamp) -> Result<Timestamp, Unproved> {
        let until = self.issued_at.plus(settings.max_age).plus(settings.leeway);
        let is_early = self.issued_at > wall.plus(settings.leeway);
        if is_early || wall >= until { Err(Unproved::Time) } else { Ok(until) }
    }

    /// Its key, if it is the one with this thumbprint.
    fn key(&self, jkt: &[u8; 32]) -> Result<jwks::Key, Unproved> {
        let jwk = self.header.get("jwk").and_then(Value::as_object).ok_or(Unproved::Key)?;
        let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        if private.iter().any(|name| jwk.contains_key(*name)) {
            return Err(Unproved::Key);
        }
        let thumbprint = thumbprint(jwk).ok_or(Unproved::Key)?;
        verify_slices_are_equal(&thumbprint, jkt).map_err(|_| Unproved::OtherKey)?;
        let key = jwks::embedded(jwk).ok_or(Unproved::Key)?;
        if key.algorithms.contains(&self.algorithm) { Ok(key) } else { Err(Unproved::Algorithm) }
    }
}

/// A part of a proof: strict base64url of an object in which every name stands once.
fn read_object(part: &str) -> Result<Map<String, Value>, Unproved> {
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| Unproved::Malformed)?;
    object(&text).map_err(|_| Unproved::Malformed)
}

/// The thumbprint of a public key (RFC 7638 §3): the hash of the members that make it up, in the order of their names.
fn thumbprint(jwk: &Map<String, Value>) -> Option<[u8; 32]> {
    let names: &[&str] = match jwk.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let mut text = String::with_capacity(512);
    for name in names {
        let value = jwk.get(*name)?.as_str()?;
        // None of them needs an escape: names of curves, and base64url.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        text.push(if text.is_empty() { '{' } else { ',' });
        text.extend(["\"", name, "\":\"", value, "\""]);
    }
    text.push('}');
    digest(&SHA256, text.as_bytes()).as_ref().try_into().ok()
}

/// Whether `htu` is the address of the request, both normalised as RFC 3986 §6.2.2 and §6.2.3 say, without query and fragment.
///
/// A path that the gateway would not take from a request is no address either: dot segments are not resolved but refused.
fn is_address(htu: &str, request: &Request<'_>) -> bool {
    let Some((scheme, rest)) = htu.split_once("://") else { return false };
    let (own, usual) = if request.https { ("https", 443) } else { ("http", 80) };
    let rest = rest.split_once(['?', '#']).map_or(rest, |(address, _)| address);
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    // RFC 3986 §6.2.3: an empty port is that of the scheme.
    let authority = authority.strip_suffix(':').unwrap_or(authority);
    let (Ok(host), Ok(target)) = (Host::parse(authority.as_bytes()), Target::parse(path.as_bytes())) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(own)
        && host.name() == request.host
        && host.port().unwrap_or(usual) == request.port
        && target.path() == request.path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::forge::{NOON, jwk, signed_by};
    use serde_json::json;

    const ENTRY: EntryId = EntryId(7);
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const SETTINGS: DpopSettings =
        DpopSettings { max_age: Duration::from_mins(1), leeway: Duration::from_secs(5), nonce: false };

    /// `GET https://resource.example.org/protectedresource`, the request of RFC 9449 §7.1.
    const REQUEST: Request<'static> = Request {
        method: "GET",
        https: true,
        host: "resource.example.org",
        port: 443,
        path: "/protectedresource",
        token: TOKEN,
    };

    fn dpop(settings: DpopSettings, started_at: Timestamp) -> Dpop {
        Dpop::new(vec![(ENTRY, settings)], Arc::new(DpopMemory::new(started_at)))
    }

    fn thumbprint_of(jwk: &Value) -> [u8; 32] {
        thumbprint(jwk.as_object().expect("an object")).expect("a public key")
    }

    /// A proof for [`REQUEST`] at noon by the test key of ES256, but for what `change` does to it; and what is said of it by a
    /// process that started an hour ago.
    fn ask(change: impl Fn(&mut Value, &mut Value)) -> Result<(), Unproved> {
        let (mut header, mut claims) = parts();
        change(&mut header, &mut claims);
        check(&dpop(SETTINGS, NOON.minus(Duration::from_hours(1))), &proof(&header, &claims), &REQUEST, NOON)
    }

    fn parts() -> (Value, Value) {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(Algorithm::ES256, &json!({})) });
        let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, TOKEN.as_bytes()));
        let claims = json!({
            "jti": "a", "htm": "GET", "htu": "https://resource.example.org/protectedresource",
            "iat": NOON.as_secs(), "ath": ath,
        });
        (header, claims)
    }

    fn proof(header: &Value, claims: &Value) -> String {
        signed_by(Algorithm::ES256, &header.to_string(), &claims.to_string())
    }

    fn check(dpop: &Dpop, proof: &str, request: &Request<'_>, wall: Timestamp) -> Result<(), Unproved> {
        let jkt = thumbprint_of(&jwk(Algorithm::ES256, &json!({})));
        dpop.check(proof.as_bytes(), request, (ENTRY, &jkt), (wall, wall))
    }

    #[test]
    fn a_proof_with_one_thing_wrong_does_not_count() {
        type Change = fn(&mut Value, &mut Value);
        let noon = NOON.as_secs();
        let drop_from =
            |from: &mut Value, name: &str| drop(from.as_object_mut().expect("an object").remove(name));
        let wrong: [(&str, Change, Unproved); 30] = [
            ("typ JWT", |header, _| header["typ"] = json!("JWT"), Unproved::Type),
            ("typ null", |header, _| header["typ"] = json!(null), Unproved::Type),
            ("alg none", |header, _| header["alg"] = json!("none"), Unproved::Algorithm),
            ("alg HS256", |header, _| header["alg"] = json!("HS256"), Unproved::Algorithm),
            ("alg of another key", |header, _| header["alg"] = json!("ES384"), Unproved::Algorithm),
            ("alg with a space", |header, _| header["alg"] = json!("ES256 ES384"), Unproved::Algorithm),
            ("crit", |header, _| header["crit"] = json!(["jwk"]), Unproved::Malformed),
            ("b64", |header, _| header["b64"] = json!(true), Unproved::Malformed),
            ("jwk null", |header, _| header["jwk"] = json!(null), Unproved::Key),
            ("jwk with d", |header, _| header["jwk"]["d"] = json!("AAAA"), Unproved::Key),
            ("jwk with k", |header, _| header["jwk"]["k"] = json!("AAAA"), Unproved::Key),
            ("jwk for encryption", |header, _| header["jwk"]["use"] = json!("enc"), Unproved::Key),
            ("jwk for another alg", |header, _| header["jwk"]["alg"] = json!("ES384"), Unproved::Key),
            (
                "jwk of another key",
                |header, _| header["jwk"] = jwk(Algorithm::ES384, &json!({})),
                Unproved::OtherKey,
            ),
            ("jwk of a symmetric key", |header, _| header["jwk"] = json!({ "kty": "oct" }), Unproved::Key),
            (
                "jwk with padding",
                |header, _| {
                    header["jwk"]["x"] = json!(format!("{}=", header["jwk"]["x"].as_str().expect("text")));
                },
                Unproved::Key,
            ),
            ("jti empty", |_, claims| claims["jti"] = json!(""), Unproved::Malformed),
            ("jti a number", |_, claims| claims["jti"] = json!(7), Unproved::Malformed),
            ("htm POST", |_, claims| claims["htm"] = json!("POST"), Unproved::Method),
            ("htm get", |_, claims| claims["htm"] = json!("get"), Unproved::Method),
            ("htm null", |_, claims| claims["htm"] = json!(null), Unproved::Malformed),
            (
                "htu elsewhere",
                |_, claims| claims["htu"] = json!("https://resource.example.org/"),
                Unproved::Address,
            ),
            ("iat text", |_, claims| claims["iat"] = json!("1795348800"), Unproved::Malformed),
            (
                "iat early",
                |_, claims| claims["iat"] = json!(claims["iat"].as_u64().expect("a number") + 6),
                Unproved::Time,
            ),
            (
                "iat late",
                |_, claims| claims["iat"] = json!(claims["iat"].as_u64().expect("a number") - 65),
                Unproved::Time,
            ),
            ("iat huge", |_, claims| claims["iat"] = json!(1e300), Unproved::Time),
            ("ath null", |_, claims| claims["ath"] = json!(null), Unproved::OtherToken),
            (
                "ath of another",
                |_, claims| {
                    claims["ath"] = json!(URL_SAFE_NO_PAD.encode(digest(&SHA256, b"another")));
                },
                Unproved::OtherToken,
            ),
            ("ath short", |_, claims| claims["ath"] = json!("AAAA"), Unproved::OtherToken),
            ("nonce a number", |_, claims| claims["nonce"] = json!(7), Unproved::Malformed),
        ];
        for (name, change, expected) in wrong {
            assert_eq!(ask(change), Err(expected), "{name}");
        }
        for (absent, expected) in [
            ("jti", Unproved::Malformed),
            ("htm", Unproved::Malformed),
            ("htu", Unproved::Malformed),
            ("iat", Unproved::Malformed),
            ("ath", Unproved::OtherToken),
        ] {
            assert_eq!(ask(|_, claims| drop_from(claims, absent)), Err(expected), "without {absent}");
        }
        for (absent, expected) in
            [("typ", Unproved::Type), ("alg", Unproved::Algorithm), ("jwk", Unproved::Key)]
        {
            assert_eq!(ask(|header, _| drop_from(header, absent)), Err(expected), "without {absent}");
        }
        for later in [noon - 64, noon + 5] {
            assert_eq!(ask(|_, claims| claims["iat"] = json!(later)), Ok(()), "{later}");
        }
        assert_eq!(ask(|_, _| {}), Ok(()));
        assert_eq!(ask(|header, _| header["typ"] = json!("DPoP+JWT")), Ok(()));
        assert_eq!(ask(|header, _| header["kid"] = json!("a")), Ok(()));
    }

    #[test]
    fn what_is_no_proof_does_not_count() {
        let (header, claims) = parts();
        let good = proof(&header, &claims);
        let parts: Vec<&str> = good.split('.').collect();
        let doubled = claims.to_string().replacen('{', "{\"htm\":\"POST\",", 1);
        for (text, expected) in [
            (String::new(), Unproved::Malformed),
            ("..".to_owned(), Unproved::Malformed),
            (format!("{}.{}", parts[0], parts[1]), Unproved::Malformed),
            (format!("{}.{}.", parts[0], parts[1]), Unproved::Signature),
            (format!("{good}.x"), Unproved::Malformed),
            (format!("{good}="), Unproved::Signature),
            (format!(" {good}"), Unproved::Malformed),
            (format!("{good}, {good}"), Unproved::Malformed),
            (signed_by(Algorithm::ES256, &header.to_string(), &doubled), Unproved::Malformed),
            (format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86)), Unproved::Signature),
            (format!("{good}{}", "A".repeat(PROOF_BYTES_MAX)), Unproved::Malformed),
        ] {
            let dpop = dpop(SETTINGS, NOON.minus(Duration::from_hours(1)));
            assert_eq!(check(&dpop, &text, &REQUEST, NOON), Err(expected), "{text:.60}");
        }
    }

    #[test]
    fn an_address_is_compared_as_it_is_normalised() {
        let at = |https, host, port, path| Request { https, host, port, path, ..REQUEST };
        let plain = at(true, "api.example.com", 443, "/a/b");
        for (htu, request, expected) in [
            ("https://api.example.com/a/b", plain, true),
            ("HTTPS://API.Example.COM/a/b", plain, true),
            ("https://api.example.com:443/a/b", plain, true),
            ("https://api.example.com:/a/b", plain, true),
            ("https://api.example.com./a/b", plain, true),
            ("https://api.example.com/%61/b", plain, true),
            ("https://api.example.com/a/b?x=1", plain, true),
            ("https://api.example.com/a/b#x", plain, true),
            ("https://api.example.com/a/b/", plain, false),
            ("https://api.example.com/A/b", plain, false),
            ("https://api.example.com/a%2Fb", plain, false),
            ("https://api.example.com/a/../a/b", plain, false),
            ("https://api.example.com//a/b", plain, false),
            ("http://api.example.com/a/b", plain, false),
            ("https://api.example.com:8443/a/b", plain, false),
            ("https://api.example.org/a/b", plain, false),
            ("https://user@api.example.com/a/b", plain, false),
            ("https://api.example.com\\@evil/a/b", plain, false),
            ("https:/api.example.com/a/b", plain, false),
            ("/a/b", plain, false),
            ("", plain, false),
            ("https://api.example.com", at(true, "api.example.com", 443, "/"), true),
            ("https://api.example.com?a/b", at(true, "api.example.com", 443, "/"), true),
            ("https://api.example.com/~x/%C3%A9", at(true, "api.example.com", 443, "/~x/%C3%A9"), true),
            ("https://api.example.com/%7ex/%c3%a9", at(true, "api.example.com", 443, "/~x/%C3%A9"), true),
            ("http://[::1]:8080/a", at(false, "[::1]", 8080, "/a"), true),
            ("http://[0:0::1]:8080/a", at(false, "[::1]", 8080, "/a"), true),
            ("http://localhost/a", at(false, "localhost", 80, "/a"), true),
        ] {
            assert_eq!(is_address(htu, &request), expected, "{htu}");
        }
    }

    #[test]
    fn a_proof_that_may_have_been_used_before_the_start_needs_a_nonce() {
        let started_at = NOON.minus(Duration::from_secs(3));
        let (header, mut claims) = parts();
        let dpop = dpop(SETTINGS, started_at);
        // The client's clock may be five seconds ahead: made before the start, it may say so much.
        for (after, expected) in [(0, Err(Unproved::Nonce)), (2, Err(Unproved::Nonce)), (3, Ok(()))] {
            claims["iat"] = json!(NOON.as_secs() + after);
            assert_eq!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON), expected, "{after}");
        }
        claims["iat"] = json!(NOON.as_secs());
        claims["nonce"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON), Err(Unproved::Nonce));
        claims["nonce"] = json!(dpop.nonce(NOON));
        claims["jti"] = json!("b");
        assert_eq!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON), Ok(()));
    }

    #[test]
    fn where_the_file_says_so_every_proof_needs_a_nonce() {
        let dpop = dpop(DpopSettings { nonce: true, ..SETTINGS }, NOON.minus(Duration::from_hours(1)));
        let (header, mut claims) = parts();
        assert_eq!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON), Err(Unproved::Nonce));
        claims["nonce"] = json!(dpop.nonce(NOON));
        assert_eq!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON), Ok(()));
        assert_eq!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON), Err(Unproved::Replayed));
    }

    #[test]
    fn a_client_hears_the_next_nonce_before_its_own_is_too_old() {
        let dpop = dpop(DpopSettings { nonce: true, ..SETTINGS }, NOON.minus(Duration::from_hours(1)));
        let (header, mut claims) = parts();
        claims["nonce"] = json!(dpop.nonce(NOON));
        let proof = proof(&header, &claims);
        let next = |after| dpop.next_nonce(proof.as_bytes(), NOON.plus(Duration::from_mins(after)));
        assert_eq!((next(0), next(1)), (None, None));
        assert_eq!(next(2), Some(dpop.nonce(NOON.plus(Duration::from_mins(2)))));
        assert!(dpop.asks_for_nonces(ENTRY) && !dpop.asks_for_nonces(EntryId(8)));
        assert!(!self::dpop(SETTINGS, NOON).asks_for_nonces(ENTRY));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_lets_no_used_proof_count_again() {
        let dpop = dpop(SETTINGS, NOON.minus(Duration::from_hours(1)));
        let jkt = thumbprint_of(&jwk(Algorithm::ES256, &json!({})));
        let (header, claims) = parts();
        let proof = proof(&header, &claims);
        let at = |wall, now| dpop.check(proof.as_bytes(), &REQUEST, (ENTRY, &jkt), (wall, now));
        assert_eq!(at(NOON, NOON), Ok(()));
        let later = NOON.plus(Duration::from_mins(5));
        // By the process's own time it is forgotten; by the wall clock it would be in time again.
        assert_eq!(at(NOON, later), Err(Unproved::Nonce));
    }

    #[test]
    fn proofs_of_an_entry_that_is_gone_count_for_nothing() {
        let (header, claims) = parts();
        let dpop = Dpop::new(Vec::new(), Arc::new(DpopMemory::new(NOON)));
        assert!(check(&dpop, &proof(&header, &claims), &REQUEST, NOON).is_err());
    }
}
