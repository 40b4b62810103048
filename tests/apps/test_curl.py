"""The Flask application behind the gateway, walked with curl and a cookie jar."""

import json
import time

from conftest import Curl

PAGE = ("--header", "Accept: text/html")


def sign_in(curl, url, user, password, path="/"):
    asked = curl(url + path, *PAGE)
    assert asked.status == 302, asked.body
    form = curl(url + asked.header("Location"), *PAGE)
    assert form.status == 200
    fields = {
        "user": user,
        "password": password,
        "form_token": form.hidden("form_token"),
        "return_to": form.hidden("return_to"),
        "way": form.hidden("way"),
    }
    data = [part for name, value in fields.items() for part in ("--data-urlencode", f"{name}={value}")]
    return curl(f"{url}/_vestibule/login", *PAGE, "--header", f"Origin: {url}", *data)


def sign_out(curl, url):
    form = curl(f"{url}/_vestibule/logout", *PAGE)
    token = form.hidden("form_token")
    return curl(f"{url}/_vestibule/logout", *PAGE, "--header", f"Origin: {url}", "--data-urlencode", f"form_token={token}")


def echoed(curl, url, *arguments):
    answer = curl(url, *arguments)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def sent(seen, name):
    """What the application got under a name, however the name was spelt."""
    def fold(text):
        return "".join(c for c in text.lower() if c.isalnum())

    return [value for field, value in seen["headers"] if fold(field) == fold(name)]


def test_a_page_asks_for_sign_in_then_says_who_i_am_then_asks_again(guarded, curl):
    asked = curl(guarded.url + "/notes?x=1", *PAGE)
    assert (asked.status, asked.header("Location")) == (302, "/_vestibule/login?return_to=%2Fnotes%3Fx%3D1")
    assert "no-store" in asked.header("Cache-Control")

    wrong = sign_in(curl, guarded.url, "alice", "not the password")
    assert wrong.status == 403
    assert "not right" in wrong.body and "session" not in curl.cookies()

    signed_in = sign_in(curl, guarded.url, "alice", guarded.passwords["alice"], "/notes?x=1")
    assert signed_in.status == 303, signed_in.body
    assert signed_in.header("Location") == "/notes?x=1"
    cookie = next(line for line in signed_in.headers("Set-Cookie") if line.startswith("session="))
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Domain" not in cookie

    page = curl(guarded.url + "/", *PAGE)
    assert page.status == 200 and '<dd id="name">alice</dd>' in page.body
    assert '<dd id="groups">ops, a,b</dd>' in page.body

    kept = curl.cookies()["session"]
    left = sign_out(curl, guarded.url)
    assert left.status == 200
    assert curl(guarded.url + "/", *PAGE).status == 302
    # A copy of the cookie is as dead as the session.
    assert curl(guarded.url + "/", *PAGE, "--header", f"Cookie: session={kept}").status == 302


def test_a_name_in_unicode_arrives_whole(guarded, curl):
    name = "Zoë Müller"
    assert sign_in(curl, guarded.url, name, guarded.passwords[name]).status == 303
    assert f'<dd id="name">{name}</dd>' in curl(guarded.url + "/", *PAGE).body
    seen = echoed(curl, guarded.url + "/echo")
    assert sent(seen, "X-Auth-User") == ["Zo%C3%AB M%C3%BCller"]


def test_identity_that_a_visitor_claims_never_arrives(guarded, curl):
    forged = []
    for name in ["X-Auth-User", "X_Auth_User", "x-auth.user", "X-AUTH-GROUPS", "X_Auth_Email"]:
        forged += ["--header", f"{name}: root"]
    public = curl(guarded.url + "/public/", *forged)
    assert public.status == 200 and "names nobody: None" in public.body

    assert sign_in(curl, guarded.url, "alice", guarded.passwords["alice"]).status == 303
    seen = echoed(curl, guarded.url + "/echo", *forged, "--header", "Connection: X-Auth-User, keep-alive")
    assert sent(seen, "X-Auth-User") == ["alice"]
    assert sent(seen, "X-Auth-Groups") == ["ops,a%2Cb"]
    assert sent(seen, "X-Auth-Email") == []
    assert len(sent(seen, "X-Request-Id")) == 1


def test_the_applications_cookies_arrive_and_leave_untouched(guarded, curl, tmp_path):
    assert sign_in(curl, guarded.url, "alice", guarded.passwords["alice"]).status == 303
    dark = curl(guarded.url + "/theme/dark", *PAGE)
    assert [line.split(";")[0] for line in dark.headers("Set-Cookie")] == ["theme=dark"]
    for _ in range(2):
        page = curl(guarded.url + "/", *PAGE)
    assert '<body class="dark">' in page.body and '<dd id="visits">2</dd>' in page.body

    # Only ours is taken out; what stands around it stays as it is, byte for byte.
    value = curl.cookies()["session"]
    odd = f'a=1; b="x y";  c=%41=; session={value}; d'
    seen = echoed(Curl(tmp_path / "empty"), guarded.url + "/echo", "--header", f"Cookie: {odd}")
    assert value not in json.dumps(seen)
    assert sent(seen, "Cookie") == ['a=1; b="x y";  c=%41=; d']


def test_the_wrong_group_is_told_so(guarded, curl):
    name = "Zoë Müller"
    assert sign_in(curl, guarded.url, name, guarded.passwords[name]).status == 303
    assert curl(guarded.url + "/ops/", *PAGE).status == 403
    assert curl(guarded.url + "/notes", *PAGE).status == 200


def test_a_form_of_another_site_is_refused_and_the_applications_own_passes(guarded, curl):
    assert sign_in(curl, guarded.url, "alice", guarded.passwords["alice"]).status == 303
    note = ("--data-urlencode", "note=milk")
    assert curl(guarded.url + "/notes", *note, "--header", "Origin: https://evil.example").status == 403
    assert curl(guarded.url + "/notes", *note, "--header", "Sec-Fetch-Site: cross-site").status == 403
    assert curl(guarded.url + "/notes", *note, "--header", f"Origin: {guarded.url}").status == 302
    assert curl(guarded.url + "/notes", *PAGE).body.count("<li>milk</li>") == 1


def test_a_script_gets_a_problem_document(guarded, curl):
    answer = curl(guarded.url + "/echo", "--header", "Accept: application/json")
    assert answer.status == 401
    assert answer.header("Content-Type").startswith("application/problem+json")
    assert answer.header("WWW-Authenticate")
    problem = json.loads(answer.body)
    assert problem["request_id"] == answer.header("X-Request-Id")
    assert "/_vestibule/login" in problem["login"]


def test_session_says_who_and_until_when(guarded, curl):
    assert curl(guarded.url + "/_vestibule/session").status == 401
    sign_in(curl, guarded.url, "alice", guarded.passwords["alice"])
    answer = curl(guarded.url + "/_vestibule/session")
    who = json.loads(answer.body)
    assert (who["subject"], who["source"], who["sign_in"], who["groups"]) == ("alice", "local", "local", ["ops", "a,b"])
    assert who["started_at"] < who["idle_until"] < who["ends_at"]


def test_a_body_passes_as_it_is(guarded, curl, tmp_path):
    sign_in(curl, guarded.url, "alice", guarded.passwords["alice"])
    body = "".join(chr(0x20 + n % 0x5F) for n in range(300_000))
    (tmp_path / "body").write_text(body)
    upload = ("--header", "Content-Type: text/plain", "--data-binary", f"@{tmp_path}/body")
    assert echoed(curl, guarded.url + "/echo", *upload)["body"] == body
    assert echoed(curl, guarded.url + "/echo", *upload, "--header", "Transfer-Encoding: chunked")["body"] == body


def test_a_target_that_reads_two_ways_is_refused(guarded, curl):
    for path in ["/public/../ops/", "/public/%2e%2e/ops/", "/public//ops", "/public/..;/ops/", "/public%2fops", "/%252e%252e/"]:
        assert curl(guarded.url + path, "--path-as-is").status == 400, path


def test_no_secret_stands_in_the_log(guarded, curl):
    sign_in(curl, guarded.url, "alice", "a wrong password 123")
    sign_in(curl, guarded.url, "alice", guarded.passwords["alice"])
    values = curl.cookies()
    sign_out(curl, guarded.url)
    # Lines are written by a thread of their own.
    deadline = time.monotonic() + 5
    while "sign_out" not in guarded.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    log = guarded.log()
    assert '"alice"' in log and "sign_out" in log
    for secret in ["a wrong password 123", guarded.passwords["alice"], values["session"], values["session"][:20]]:
        assert secret not in log
