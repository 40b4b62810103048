//! The old story, told once from its beginning: HTTP forgets, and what is done about that.

use crate::support::client::OWN_FORM;
use crate::support::tokens::{Key, claims};
use crate::support::users::password_of;
use crate::support::{Browser, Gateway, Message, SESSION, Setup, Upstream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

fn set_cookie(answer: &Message) -> Option<String> {
    answer.all("set-cookie").into_iter().find(|line| line.starts_with(SESSION))
}

fn is_taken(gateway: &Gateway, cookie: &str) -> bool {
    gateway.get("/page").header("Cookie", &format!("{SESSION}={cookie}")).send().status() == 200
}

fn sign_in(browser: &Browser<'_>, remember: bool) -> String {
    let form_token = browser.form_token("/_vestibule/login");
    let password = password_of("alice");
    let mut fields = vec![
        ("user", "alice"),
        ("password", password.as_str()),
        ("return_to", "/page"),
        ("form_token", form_token.as_str()),
    ];
    if remember {
        fields.push(("remember", "1"));
    }
    let answer = browser.own_post("/_vestibule/login").form(&fields).send();
    assert_eq!(answer.status(), 303, "{}", answer.text());
    set_cookie(&answer).expect("a session cookie")
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
fn the_old_story() {
    let upstream = Upstream::prompted();
    let key = Key::es256();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ anonymous: {}, remember_me: { idle_timeout: 7d, absolute_lifetime: 30d } }")
        .set(
            "tokens",
            "{ api: { jwt: { issuer: \"https://id.example.com\", audience: [wiki], algorithms: [ES256], keys: { public_key: token.key } } } }",
        )
        .file("token.key", &key.file())
        .routes(&[
            "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
            "{ name: api, host: wiki.example.com, path: /api, upstream: app, access: { tokens: [api], allow: everyone } }",
            "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
               access: { sign_in: [local], allow: everyone } }",
        ])
        .start();

    // HTTP forgets. Who comes twice comes twice for the first time.
    let visitor = gateway.browser();
    for _ in 0..2 {
        assert_eq!(visitor.data("/shop"), None);
        assert!(visitor.cookie(SESSION).is_none());
    }

    // The application wants to remember something: the visitor gets a cookie, and sends it from then on.
    let answer = visitor.get("/shop").patch("{\"name\":\"pure\",\"age\":18}").send();
    let line = set_cookie(&answer).expect("a session cookie");
    assert!(line.contains("; HttpOnly") && line.contains("; Secure") && line.contains("; Path=/"), "{line}");
    assert!(
        !line.contains("Max-Age") && !line.contains("pure"),
        "it says nothing, and goes with the browser: {line}"
    );
    let books = json!([{"id": 1, "title": "三国演义"}, {"id": 2, "title": "Faust"}]);
    visitor.keep("/shop", &json!({ "book_list": books }).to_string());
    assert_eq!(visitor.data("/shop"), Some(json!({"name": "pure", "age": 18, "book_list": books})));
    assert_eq!(upstream.last().header("cookie"), None, "the token is between the visitor and the gateway");

    // One thing is deleted, then all.
    visitor.keep("/shop", "{\"age\":null}");
    assert_eq!(visitor.data("/shop"), Some(json!({"name": "pure", "book_list": books})));
    visitor.keep("/shop", "{\"name\":null,\"book_list\":null}");
    assert_eq!(visitor.data("/shop"), Some(json!({})));

    // The visitor deletes the cookie: nobody knows them any more, and another token makes them somebody else.
    visitor.keep("/shop", "{\"name\":\"pure\"}");
    let before = visitor.cookie(SESSION);
    visitor.drop_cookie(SESSION);
    assert_eq!(visitor.data("/shop"), None);
    visitor.keep("/shop", "{\"name\":\"other\"}");
    assert_ne!(visitor.cookie(SESSION), before);
    assert_eq!(visitor.data("/shop"), Some(json!({"name": "other"})));

    // Without Max-Age the cookie ends with the browser.
    visitor.close();
    assert_eq!(visitor.data("/shop"), None);
    visitor.keep("/shop", "{\"cart\":[1]}");

    // Signing in gives another token; the cart comes along, the old token is dead. It, too, goes with the browser,
    // unless the visitor asked to be remembered.
    let before = visitor.cookie(SESSION).expect("a session cookie");
    let line = sign_in(&visitor, false);
    assert!(!line.contains("Max-Age"), "{line}");
    assert_eq!(visitor.data("/page"), Some(json!({"cart": [1]})));
    assert_eq!(gateway.get("/shop").header("Cookie", &format!("{SESSION}={before}")).send().text(), "none");
    visitor.close();
    assert!(!visitor.is_signed_in());
    let line = sign_in(&visitor, true);
    assert!(line.ends_with("; Max-Age=2592000"), "thirty days: {line}");
    visitor.close();
    assert!(visitor.is_signed_in());

    // The token: 32 random bytes and a keyed tag of 8. It tells nothing, and nobody can make one.
    let token = visitor.cookie(SESSION).expect("a session cookie");
    let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64url");
    let (random, tag) = bytes.split_at(32);
    assert_eq!(tag.len(), 8);
    let made_of = |random: &[u8], tag: &[u8]| URL_SAFE_NO_PAD.encode([random, tag].concat());
    assert!(is_taken(&gateway, &made_of(random, tag)));
    for forged in [
        made_of(&[7; 32], tag),
        made_of(random, &[7; 8]),
        made_of(&[7; 32], &[7; 8]),
        made_of(random, &[]),
        "alice".to_owned(),
    ] {
        assert!(!is_taken(&gateway, &forged), "{forged}");
    }

    // A signed token has three parts. Whoever sees it can read it, and nobody can change it.
    let bearer = key.good("alice");
    let parts: Vec<&str> = bearer.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts: {bearer}") };
    let read = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    };
    assert_eq!((&read(header)["alg"], &read(payload)["sub"]), (&json!("ES256"), &json!("alice")));
    let mallory = URL_SAFE_NO_PAD.encode(claims("mallory").to_string());
    let unsigned = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
    for (token, status) in [
        (bearer.clone(), 200),
        (format!("{header}.{mallory}.{signature}"), 401),
        (format!("{unsigned}.{mallory}."), 401),
        (format!("{header}.{payload}."), 401),
    ] {
        assert_eq!(gateway.get("/api").bearer(&token).send().status(), status, "{token}");
    }

    // Another site makes the browser send a form: the cookie goes along, and still nothing happens.
    visitor.keep("/page", "{\"money\":100}");
    let answer = visitor
        .post("/page/transfer")
        .headers(&[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")])
        .form(&[("to", "mallory")])
        .patch("{\"money\":0}")
        .send();
    assert_eq!(answer.status(), 403);
    assert_eq!(visitor.data("/page").expect("signed in")["money"], json!(100));
    let answer = visitor
        .post("/page/transfer")
        .headers(&OWN_FORM)
        .form(&[("to", "bob")])
        .patch("{\"money\":50}")
        .send();
    assert_eq!(answer.status(), 200);
    assert_eq!(visitor.data("/page").expect("signed in")["money"], json!(50));

    // Signing out ends it for everybody who holds the token.
    let copy = visitor.cookie(SESSION).expect("a session cookie");
    assert_eq!(visitor.sign_out(false).status(), 200);
    assert!(visitor.cookie(SESSION).is_none());
    assert!(!is_taken(&gateway, &copy));
    assert_eq!(visitor.data("/shop"), None);
}
