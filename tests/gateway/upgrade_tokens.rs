//! An upgrade takes along what is known of bearer tokens: one that was revoked stays so, and no proof counts twice.

use crate::revocation::{ask, refused, revoke, setup, token};
use crate::support::proofs::Holder;
use crate::support::tokens::{ISSUER, Key};
use crate::support::wait::{PATIENCE, pause, unix_now};
use crate::support::{Gateway, HOST, Message, Setup, Upstream, Wire};
use serde_json::{Value, json};
use std::time::Duration;

/// A gateway that another process may take over from, with its store in memory and on disk.
fn replaceable(upstream: &Upstream, issuer: &Key) -> [Setup; 2] {
    ["memory", "{ sqlite: sessions.db }"].map(|store| {
        let sessions = format!("{{ store: {store}, per_subject: {{ max: 1000 }} }}");
        setup(upstream, issuer, "").set("upgrade", "{ socket: run/upgrade.sock }").set("sessions", &sessions)
    })
}

fn over(wire: &mut Wire, fields: &str) -> Message {
    wire.write(format!("GET /api HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    wire.response_to("GET")
}

fn bearer(gateway: &Gateway, token: &str) -> String {
    gateway.secrets().note("a token", token);
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn what_was_revoked_before_an_upgrade_is_dead_after_it() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    for setup in replaceable(&upstream, &issuer) {
        let mut gateway = setup.start();
        let [named, alice, bob, carol] = [("dave", "named"), ("alice", "1"), ("bob", "2"), ("carol", "3")]
            .map(|(subject, jti)| token(&issuer, subject, jti, 10));
        let other = token(&issuer, "dave", "other", 10);
        revoke(&gateway, &json!({ "source": ISSUER, "jti": "named" }));
        revoke(&gateway, &json!({ "source": ISSUER, "subject": "alice" }));
        for (round, late) in [&bob, &carol].into_iter().enumerate() {
            assert_eq!(ask(&gateway, "/api", late).0, 200);
            gateway.upgrade();
            assert_eq!(gateway.former_end(PATIENCE), Some(()));
            for dead in [&named, &alice] {
                assert_eq!(ask(&gateway, "/api", dead), refused(), "{round}");
            }
            assert_eq!(ask(&gateway, "/api", late).0, 200, "{round}");
            let subject = if round == 0 { "bob" } else { "carol" };
            revoke(&gateway, &json!({ "source": ISSUER, "subject": subject }));
            assert_eq!(ask(&gateway, "/api", late), refused(), "{round}");
            assert_eq!(ask(&gateway, "/api", &other).0, 200, "nobody else's");
        }
        assert_eq!(ask(&gateway, "/api", &bob), refused(), "told to the one process, known to the next");
    }
}

#[test]
fn what_is_revoked_at_the_new_process_is_dead_at_the_former_one() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    for setup in replaceable(&upstream, &issuer) {
        let mut gateway = setup.start();
        let [alice, bob] = ["alice", "bob"].map(|subject| token(&issuer, subject, subject, 10));
        let [alices, bobs] = [&alice, &bob].map(|token| bearer(&gateway, token));
        let mut kept: Vec<Wire> = (0..2).map(|_| gateway.connect()).collect();
        for wire in &mut kept {
            assert_eq!(over(wire, &alices).status(), 200);
        }
        gateway.upgrade();
        revoke(&gateway, &json!({ "source": ISSUER, "subject": "alice" }));
        assert_eq!(over(&mut kept[0], &alices).status(), 401, "the former process knows it");
        assert_eq!(over(&mut kept[1], &bobs).status(), 200);
        assert_eq!(gateway.former_end(PATIENCE), Some(()));
    }
}

#[test]
fn a_proof_counts_at_one_process_alone() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let [setup, _] = replaceable(&upstream, &issuer);
    let mut gateway = setup.start();
    let holder = Holder::new();
    let token = holder.token(&issuer, "alice");
    holder.greet(&gateway, "/api", &token);
    // By a clock that is as far ahead as one may be: made later than the new process was started, whatever the leeway.
    let ahead = |_: &mut Value, claims: &mut Value| claims["iat"] = json!(unix_now() + 30);
    let without = |_: &mut Value, claims: &mut Value| {
        claims.as_object_mut().expect("an object").remove("nonce");
        claims["iat"] = json!(unix_now() + 30);
    };
    let fields = |gateway: &Gateway, proof: &str| {
        gateway.secrets().note("a proof", proof);
        gateway.secrets().note("a bound token", &token);
        format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n")
    };
    let mut kept: Vec<Wire> = (0..2).map(|_| gateway.connect()).collect();
    for wire in &mut kept {
        let proof = holder.proof(("GET", "/api"), &token, |_, _| {});
        assert_eq!(over(wire, &fields(&gateway, &proof)).status(), 200);
    }
    gateway.upgrade();
    pause(Duration::from_millis(1100));
    // A proof that any process would take is taken by the new one alone.
    let proof = holder.proof(("GET", "/api"), &token, without);
    let answer = over(&mut kept[0], &fields(&gateway, &proof));
    assert_eq!(answer.status(), 401, "at the former process");
    assert!(answer.header("dpop-nonce").is_some());
    // One that was made for the former process counts there, and nowhere else.
    let proof = holder.proof(("GET", "/api"), &token, ahead);
    assert_eq!(over(&mut kept[1], &fields(&gateway, &proof)).status(), 200);
    let again = over(&mut gateway.connect(), &fields(&gateway, &proof));
    assert_eq!(again.status(), 401, "it was used");
    holder.take_nonce(&again);
    assert_eq!(holder.ask(&gateway, ("GET", "/api"), &token, |_, _| {}).send().status(), 200);
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
}
