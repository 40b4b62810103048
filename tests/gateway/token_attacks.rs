//! The classic attacks on signed tokens: each gets 401 (or 400 and 431 for what no request may be), and nothing reaches the
//! application. Between two attacks the right token passes, so that no refusal comes from a gateway that refuses all.

use crate::support::tokens::{AUDIENCE, ISSUER, Key, claims};
use crate::support::wait::unix_now;
use crate::support::{Gateway, Setup, Upstream};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::net::TcpListener;

/// A gateway that believes one ES256 and one RS256 key of a set; `/blog` is for another audience.
struct Besieged {
    upstream: Upstream,
    gateway: Gateway,
    ec: Key,
    rsa: Key,
}

impl Besieged {
    fn start() -> Self {
        let upstream = Upstream::recording();
        let (ec, rsa) = (Key::es256(), Key::rs256());
        let entry = |audience: &str| {
            format!(
                "{{ jwt: {{ issuer: \"{ISSUER}\", audience: [{audience}], algorithms: [ES256, RS256], keys: {{ jwks_file: token.jwks }} }} }}"
            )
        };
        let gateway = Setup::before(&upstream)
            .set("tokens", &format!("{{ api: {}, blog: {} }}", entry(AUDIENCE), entry("blog")))
            .routes(&[
                "{ name: api, host: wiki.example.com, path: /api, access: { tokens: [api], allow: everyone }, upstream: app }",
                "{ name: blog, host: wiki.example.com, path: /blog, access: { tokens: [blog], allow: everyone }, upstream: app }",
            ])
            .file("token.jwks", &json!({ "keys": [ec.jwk("ec"), rsa.jwk("rsa")] }).to_string())
            .start();
        Self { upstream, gateway, ec, rsa }
    }

    fn status(&self, token: &str) -> u16 {
        self.gateway.get("/api").bearer(token).send().status()
    }

    /// None of these passes, twice each (the second time from memory), and the right one still does.
    fn withstands(&self, attacks: impl IntoIterator<Item = (String, String)>) {
        let before = self.upstream.requests().len();
        for (name, token) in attacks {
            for _ in 0..2 {
                assert_eq!(self.status(&token), 401, "{name}");
            }
        }
        assert_eq!(self.upstream.requests().len(), before, "nothing reaches the application");
        assert_eq!(self.status(&self.ec.good("alice")), 200, "the right one passes");
    }
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().expect("three parts")
}

#[test]
fn tokens_that_need_no_key_are_refused_in_every_spelling() {
    let besieged = Besieged::start();
    let good = besieged.ec.good("root");
    let [_, payload, signature] = parts(&good);
    let spellings =
        ["none", "None", "NONE", "nOnE", "none ", " none", "", "null", "n\\u006fne", "HS0", "plain"];
    besieged.withstands(spellings.iter().flat_map(|alg| {
        let header = encoded(format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
        [
            (format!("alg {alg:?}"), format!("{header}.{payload}.")),
            (format!("alg {alg:?} with a signature"), format!("{header}.{payload}.{signature}")),
            (format!("alg {alg:?} without a dot"), format!("{header}.{payload}")),
        ]
    }));
    let odd = [json!(null), json!(false), json!(["none", "ES256"]), json!({ "alg": "ES256" }), json!(0)];
    besieged.withstands(odd.iter().map(|alg| {
        (
            format!("alg {alg}"),
            format!("{}.{payload}.{signature}", encoded(json!({ "alg": alg }).to_string())),
        )
    }));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let besieged = Besieged::start();
    let Besieged { ec, rsa, .. } = &besieged;
    let mut secrets = Vec::new();
    for key in [ec, rsa] {
        let (pem, jwk) = (key.file(), key.jwk("one"));
        secrets.extend([pem.trim_end().to_owned(), pem, jwk.to_string()]);
        secrets.extend(["n", "x"].iter().filter_map(|name| jwk[*name].as_str().map(str::to_owned)));
    }
    secrets.push(String::new());
    besieged.withstands(secrets.into_iter().flat_map(|secret| {
        let name = format!("signed with {secret:.30}");
        let symmetric = Key::Hs256(secret);
        ["HS256", "RS256", "ES256"].map(|alg| {
            let token = symmetric.token("root", |header, _| header["alg"] = json!(alg));
            (format!("{alg} {name}"), token)
        })
    }));
}

#[test]
fn keys_that_the_token_brings_are_not_looked_at() {
    let besieged = Besieged::start();
    let evil = Key::es256();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    server.set_nonblocking(true).expect("it can be asked without waiting");
    let url = format!("http://{}/jwks", server.local_addr().expect("an address"));
    let der = evil.file().lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let attacks: [(&str, Value); 7] = [
        ("jwk", evil.jwk("ec")),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!([der])),
        ("x5t", json!("AAAA")),
        ("keys", json!([evil.jwk("ec")])),
        ("kid", json!(url)),
    ];
    besieged.withstands(attacks.iter().flat_map(|(name, value)| {
        [None, Some("ec")].map(|kid| {
            let token = evil.token("root", |header, _| {
                if let Some(kid) = kid {
                    header["kid"] = json!(kid);
                }
                header[*name] = value.clone();
            });
            (format!("{name}, kid {kid:?}"), token)
        })
    }));
    assert!(server.accept().is_err(), "nobody was asked for keys");
}

#[test]
fn a_key_id_is_a_name_and_nothing_else() {
    let besieged = Besieged::start();
    let empty = Key::Hs256(String::new());
    let zero = Key::Hs256("\0".to_owned());
    let kids = [
        "../../../../dev/null",
        "/dev/null",
        "file:///dev/null",
        "' UNION SELECT 'a';--",
        "ec\0",
        "ec\n",
        "EC",
        "ec ",
        "",
        "$(id)",
        "|id",
        "rsa",
    ];
    besieged.withstands(kids.iter().flat_map(|kid| {
        [&empty, &zero, &besieged.ec].map(|key| {
            let token = key.token("root", |header, _| header["kid"] = json!(kid));
            (format!("kid {kid:?} by {}", key.algorithm()), token)
        })
    }));
    let long = "k".repeat(4000);
    let odd = [json!(7), json!(null), json!(["ec"]), json!({ "ec": 1 }), json!(true), json!(long)];
    besieged.withstands(odd.iter().map(|kid| {
        (format!("kid {kid:.30}"), besieged.ec.token("root", |header, _| header["kid"] = kid.clone()))
    }));
}

#[test]
fn extensions_that_are_not_understood_are_refused() {
    let besieged = Besieged::start();
    let headers = [
        json!({ "crit": ["exp"], "exp": 1 }),
        json!({ "crit": [] }),
        json!({ "crit": null }),
        json!({ "crit": "b64" }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "b64": false }),
        json!({ "b64": true }),
        json!({ "b64": null }),
    ];
    besieged.withstands(headers.iter().map(|more| {
        let token = besieged.ec.token("root", |header, _| {
            for (name, value) in more.as_object().expect("an object") {
                header[name] = value.clone();
            }
        });
        (more.to_string(), token)
    }));
    // What crit stands for is refused, whatever else the header says; what it does not name may stand.
    let harmless = besieged.ec.token("alice", |header, _| header["x"] = json!([1]));
    assert_eq!(besieged.status(&harmless), 200);
}

#[test]
fn a_member_stands_once() {
    let besieged = Besieged::start();
    let (header, payload) = (r#"{"alg":"ES256"}"#, claims("alice").to_string());
    let with = |front: &str| payload.replacen('{', &format!("{{{front},"), 1);
    let behind = |more: &str| format!("{},{more}}}", &payload[..payload.len() - 1]);
    let sign = |header: &str, claims: &str| besieged.ec.sign_text(header, claims);
    besieged.withstands(
        [
            ("sub before", sign(header, &with(r#""sub":"root""#))),
            ("sub behind", sign(header, &behind(r#""sub":"root""#))),
            ("sub in escapes", sign(header, &behind(r#""\u0073ub":"root""#))),
            ("exp twice", sign(header, &behind(r#""exp":9999999999"#))),
            ("aud twice", sign(header, &behind(r#""aud":"blog""#))),
            ("nested", sign(header, &behind(r#""x":{"a":1,"a":2}"#))),
            ("in a list", sign(header, &behind(r#""x":[{"a":1,"\u0061":2}]"#))),
            ("alg twice", sign(r#"{"alg":"none","alg":"ES256"}"#, &payload)),
            ("alg behind", sign(r#"{"alg":"ES256","alg":"none"}"#, &payload)),
            ("alg in escapes", sign(r#"{"alg":"ES256","\u0061lg":"none"}"#, &payload)),
            ("kid twice", sign(r#"{"alg":"ES256","kid":"ec","kid":"ec"}"#, &payload)),
        ]
        .map(|(name, token)| (name.to_owned(), token)),
    );
}

#[test]
fn times_are_numbers_and_claims_that_must_stand_do() {
    let besieged = Besieged::start();
    let text = |name: &str, value: &str| {
        let mut claims = claims("root");
        claims[name] = json!("HERE");
        besieged.ec.sign_text(r#"{"alg":"ES256"}"#, &claims.to_string().replace("\"HERE\"", value))
    };
    let soon = (unix_now() + 60).to_string();
    let mut attacks = Vec::new();
    let quoted = format!("\"{soon}\"");
    let listed = format!("[{soon}]");
    for value in [
        &*quoted,
        &listed,
        "null",
        "true",
        "{}",
        "-1",
        "-1e300",
        "0",
        "0.0",
        "-0",
        "1e-300",
        "1e300",
        "1e400",
        "18446744073709551615",
        "99999999999999999999999",
        "NaN",
        "Infinity",
        "0x7fffffff",
        "+1",
        "\"\"",
        "",
    ] {
        attacks.push((format!("exp {value}"), text("exp", value)));
    }
    for value in [
        &*quoted,
        &listed,
        "null",
        "\"0\"",
        "1e300",
        "18446744073709551615",
        "99999999999999999999999",
        "1e400",
    ] {
        attacks.push((format!("nbf {value}"), text("nbf", value)));
    }
    for value in [&*quoted, "null", "\"0\"", "[]", "{}"] {
        attacks.push((format!("iat {value}"), text("iat", value)));
    }
    for name in ["iss", "aud", "exp", "sub"] {
        let token = besieged
            .ec
            .token("root", |_, claims| drop(claims.as_object_mut().expect("an object").remove(name)));
        attacks.push((format!("no {name}"), token));
    }
    besieged.withstands(attacks);
    let fraction = text("exp", &format!("{soon}.75"));
    assert_eq!(besieged.status(&fraction), 200, "a NumericDate may have a fraction (RFC 7519 §2)");
}

#[test]
fn no_signature_is_made_of_zeroes_or_of_another_form() {
    let besieged = Besieged::start();
    let good = besieged.ec.good("alice");
    let [header, payload, signature] = parts(&good);
    let raw = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let (r, s) = raw.split_at(32);
    // The order of P-256 (FIPS 186-4 D.1.2.3).
    let order: [u8; 32] = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA,
        0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let zero = [0; 32];
    let der = [&[0x30, 68, 2, 32][..], r, &[2, 32], s].concat();
    let signatures: [(&str, Vec<u8>); 14] = [
        ("r and s zero", [zero, zero].concat()),
        ("r zero", [&zero, s].concat()),
        ("s zero", [r, &zero].concat()),
        ("r and s the order", [order, order].concat()),
        ("r zero and s the order", [zero, order].concat()),
        ("r the order", [&order, s].concat()),
        ("s the order", [r, &order].concat()),
        ("r and s exchanged", [s, r].concat()),
        ("a byte short", raw[..63].to_vec()),
        ("a byte long", [&raw[..], &[0]].concat()),
        ("zeroes before both", [&[0], r, &[0], s].concat()),
        ("twice", [&raw[..], &raw].concat()),
        ("as DER", der),
        ("empty", Vec::new()),
    ];
    besieged.withstands(
        signatures.iter().map(|(name, signature)| {
            ((*name).to_owned(), format!("{header}.{payload}.{}", encoded(signature)))
        }),
    );
    let rsa = besieged.rsa.good("alice");
    let [header, payload, _] = parts(&rsa);
    besieged.withstands([0_u8, 1, 0xFF].iter().flat_map(|&byte| {
        [0, 1, 255, 256, 257].map(|length| {
            let signature = encoded(vec![byte; length]);
            (format!("RS256 {length} × {byte}"), format!("{header}.{payload}.{signature}"))
        })
    }));
}

#[test]
fn a_token_has_one_spelling() {
    let besieged = Besieged::start();
    let good = besieged.ec.good("alice");
    let [header, payload, signature] = parts(&good);
    let standard = |part: &str| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 64 bytes leave four bits of the last character unused.
    let last = alphabet.find(&signature[85..]).expect("base64url");
    let twin = format!("{}{}", &signature[..85], &alphabet[last + 1..last + 2]);
    besieged.withstands(
        [
            ("padded header", format!("{header}=.{payload}.{signature}")),
            ("padded payload", format!("{header}.{payload}==.{signature}")),
            ("padded signature", format!("{header}.{payload}.{signature}==")),
            ("padded signature of the other alphabet", format!("{header}.{payload}.{}", standard(signature))),
            ("stray bits", format!("{header}.{payload}.{twin}")),
            ("space inside", format!("{header}. {payload}.{signature}")),
            ("space before the signature", format!("{header}.{payload} .{signature}")),
            ("tab inside", format!("{header}.{payload}\t.{signature}")),
            ("comma", format!("{good},{good}")),
            ("quotes", format!("\"{good}\"")),
            ("five parts", format!("{good}.AA.AA")),
            ("a dot before", format!(".{good}")),
            ("a dot behind", format!("{good}.")),
            ("percent", good.replace('.', "%2E")),
            (
                "flattened JSON",
                json!({ "protected": header, "payload": payload, "signature": signature }).to_string(),
            ),
        ]
        .map(|(name, token)| (name.to_owned(), token)),
    );
}

#[test]
fn what_is_too_large_or_too_deep_is_refused_without_harm() {
    let besieged = Besieged::start();
    let sign = |claims: &str| besieged.ec.sign_text(r#"{"alg":"ES256"}"#, claims);
    let payload = claims("root").to_string();
    let behind = |more: String| format!("{},\"x\":{more}}}", &payload[..payload.len() - 1]);
    besieged.withstands([
        ("beyond 8 KiB".to_owned(), sign(&behind(format!("\"{}\"", "y".repeat(8200))))),
        ("2,000 lists deep".to_owned(), sign(&behind(format!("{}{}", "[".repeat(2000), "]".repeat(2000))))),
        (
            "500 objects deep".to_owned(),
            sign(&behind(format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500)))),
        ),
        ("lists without an end".to_owned(), sign(&behind("[".repeat(3000)))),
        ("many members".to_owned(), {
            let members: Vec<String> = (0..2000).map(|number| format!("\"{number}\":0")).collect();
            sign(&behind(format!("{{{}}}", members.join(","))))
        }),
    ]);
    let huge = format!("{}.{}", "a".repeat(500_000), "b".repeat(500_000));
    let answer = besieged.gateway.raw(format!(
        "GET /api HTTP/1.1\r\nHost: wiki.example.com\r\nAuthorization: Bearer {huge}\r\nConnection: close\r\n\r\n"
    ));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer:.80}");
    assert_eq!(besieged.status(&besieged.ec.good("alice")), 200);
}

#[test]
fn two_credentials_in_one_request_are_none() {
    let besieged = Besieged::start();
    let good = besieged.ec.good("alice");
    let bad = Key::es256().good("root");
    for (first, second) in [(&good, &bad), (&bad, &good), (&good, &good)] {
        for name in ["Authorization", "authorization"] {
            let answer = besieged.gateway.raw(format!(
                "GET /api HTTP/1.1\r\nHost: wiki.example.com\r\nAuthorization: Bearer {first}\r\n{name}: Bearer {second}\r\n\
                 Connection: close\r\n\r\n"
            ));
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer:.80}");
        }
    }
    assert!(besieged.upstream.requests().is_empty());
    for value in [
        format!("Bearer {good}, Bearer {bad}"),
        format!("Bearer {good} {bad}"),
        format!("Bearer Bearer {good}"),
    ] {
        let answer = besieged.gateway.get("/api").header("Authorization", &value).send();
        assert_eq!(answer.status(), 401, "{value:.30}");
    }
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        let value = format!("{scheme} {good}");
        let answer = besieged.gateway.get("/api").header("Authorization", &value).send();
        assert_eq!(answer.status(), 200, "{scheme}: schemes have no case (RFC 9110 §11.1)");
    }
}

#[test]
fn what_is_remembered_of_a_token_on_one_route_says_nothing_on_another() {
    let besieged = Besieged::start();
    let get = |path: &str, token: &str| besieged.gateway.get(path).bearer(token).send().status();
    let wiki = besieged.ec.good("alice");
    let blog = besieged.ec.token("alice", |_, claims| claims["aud"] = json!("blog"));
    let both = besieged.ec.token("alice", |_, claims| claims["aud"] = json!(["blog", AUDIENCE]));
    for _ in 0..3 {
        assert_eq!((get("/api", &wiki), get("/blog", &wiki)), (200, 401));
        assert_eq!((get("/blog", &blog), get("/api", &blog)), (200, 401));
        assert_eq!((get("/blog", &both), get("/api", &both)), (200, 200));
    }
}
