"""The signed assertion, checked by real libraries in the shipped examples: PyJWT in Flask, jose in Express."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jwt
import pytest
from conftest import FLASK, ROOT, TARGET, Curl, Process, binary, free_port, vestibule

EXPRESS = ROOT / "deploy" / "examples" / "express"
ISSUER = "https://gw.example.com"


class Verified:
    """One of the applications behind the gateway, and the same started for another audience."""

    def __init__(self, folder, url, direct, stranger, gateway, password):
        self.folder, self.url, self.direct, self.stranger = folder, url, direct, stranger
        self.gateway, self.password = gateway, password

    def visitor(self, folder):
        curl = Curl(folder)
        page = curl(self.url + "/_vestibule/login", "--header", "Accept: text/html")
        form = {"form_token": page.hidden("form_token"), "return_to": "/", "user": "alice", "password": self.password}
        fields = [part for name, value in form.items() for part in ("--data-urlencode", f"{name}={value}")]
        proof = ["--header", f"Origin: {self.url}", "--header", "Sec-Fetch-Site: same-origin"]
        answer = curl(self.url + "/_vestibule/login", *fields, *proof)
        assert answer.status == 303, answer.body
        return curl

    def reload(self, text):
        """Another file in force."""
        (self.folder / "vestibule.yaml").write_text(text)
        before = self.gateway.log.read_text().count("config_loaded")
        os.kill(self.gateway.process.pid, 1)
        for _ in range(200):
            if self.gateway.log.read_text().count("config_loaded") > before:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.gateway.process.wait(timeout=0.05)
        raise AssertionError(self.gateway.log.read_text())


def flask(folder, ports):
    for source in FLASK.glob("*.py"):
        shutil.copy(source, folder)
    serve = [sys.executable, "-m", "waitress", "--listen=127.0.0.1:{port}", "verified:app"]
    return serve, (FLASK / "vestibule.yaml").read_text().replace("5002", str(ports["direct"]))


def express(folder, ports):
    for source in [*EXPRESS.glob("*.js"), EXPRESS / "package.json"]:
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(TARGET / "express" / "node_modules")
    return ["node", "verified.js"], (EXPRESS / "verified.yaml").read_text().replace("3002", str(ports["direct"]))


@pytest.fixture(params=[flask, express], ids=["PyJWT", "jose"])
def verified(request, tmp_path):
    ports = {name: free_port() for name in ["gateway", "direct", "stranger"]}
    serve, text = request.param(tmp_path, ports)
    text = text.replace("8080", str(ports["gateway"])) + "\nlogs: { audit: { format: json }, access: { to: 'off' } }\n"
    (tmp_path / "vestibule.yaml").write_text(text)
    password = secrets.token_urlsafe(12)
    hashed = vestibule("password", "hash", stdin=password + "\n").stdout.strip()
    users = f"alice:\n  password: {hashed}\n  email: alice@example.com\n  groups: [ops, 'a,b']\n"
    for name, content in [
        ("session.key", vestibule("keys", "generate").stdout),
        ("assertion.pem", vestibule("keys", "generate", "--assertion").stdout),
        ("next.pem", vestibule("keys", "generate", "--assertion=eddsa").stdout),
        ("users.yaml", users),
    ]:
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    url = f"http://localhost:{ports['gateway']}"
    with contextlib.ExitStack() as running:
        run = [binary(), "run", "-c", tmp_path / "vestibule.yaml"]
        gateway = running.enter_context(Process(run, url + "/_vestibule/jwks.json", tmp_path / "gateway.log"))
        for name, audience in [("direct", "verified"), ("stranger", "another")]:
            environment = {**os.environ, "GATEWAY": url, "PORT": str(ports[name]), "AUDIENCE": audience}
            command = [part.format(port=ports[name]) for part in serve]
            address = f"http://127.0.0.1:{ports[name]}/verified"
            log = tmp_path / f"{name}.log"
            running.enter_context(Process(command, address, log, cwd=tmp_path, env=environment))
        direct, stranger = (f"http://127.0.0.1:{ports[name]}/verified" for name in ["direct", "stranger"])
        yield Verified(tmp_path, url, direct, stranger, gateway, password)


def ask(url, assertion=None):
    request = urllib.request.Request(url, headers={"X-Auth-Assertion": assertion} if assertion else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def test_the_application_believes_the_signature_and_nothing_else(verified, tmp_path):
    visitor = verified.visitor(tmp_path)
    answer = visitor(verified.url + "/verified")
    assert answer.status == 200, answer.body + verified.gateway.log.read_text()
    said = json.loads(answer.body)
    assert (said["sub"], said["email"], said["groups"]) == ("alice", "alice@example.com", ["ops", "a,b"])
    forged = visitor(verified.url + "/verified", "--header", "X-Auth-Assertion: forged", "--header", "X_Auth_Assertion: x")
    assert forged.status == 200, "what a visitor sends is not what the application sees"

    # Past the gateway, with an assertion of this gateway for this application, it is believed: the token is the proof.
    key = (verified.folder / "assertion.pem").read_text()
    kid = jwt.PyJWKClient(verified.url + "/_vestibule/jwks.json").get_signing_keys()[0].key_id
    now = time.time()
    claims = {"iss": ISSUER, "aud": "verified", "sub": "bob", "iat": int(now), "exp": int(now) + 60}

    def made(key=key, algorithm="ES256", typ="vestibule-assertion+jwt", **changes):
        return jwt.encode({**claims, **changes}, key, algorithm, headers={"kid": kid, "typ": typ})

    assert ask(verified.direct, made()) == 200
    assert ask(verified.direct) == 401
    assert ask(verified.direct, made(exp=int(now) - 60)) == 401
    assert ask(verified.direct, made(iss="https://other.example.com")) == 401
    assert ask(verified.direct, made(aud="another")) == 401
    assert ask(verified.stranger, made()) == 401, "it was made for another application"
    assert ask(verified.direct, made(typ="at+jwt")) == 401, "another token of the same issuer"
    other = vestibule("keys", "generate", "--assertion").stdout
    assert ask(verified.direct, made(key=other)) == 401, "signed by somebody else under the same name"
    none = jwt.encode(claims, None, "none", headers={"kid": kid, "typ": "vestibule-assertion+jwt"})
    assert ask(verified.direct, none) == 401


def test_keys_roll_over_under_the_application(verified, tmp_path):
    visitor = verified.visitor(tmp_path)
    assert visitor(verified.url + "/verified").status == 200
    text = (verified.folder / "vestibule.yaml").read_text()
    for keys in ["{ file: assertion.pem }, { file: next.pem }", "{ file: next.pem }, { file: assertion.pem }", "{ file: next.pem }"]:
        verified.reload(text.replace("{ file: assertion.pem }", keys))
        # An unknown key is asked for at most once a second.
        deadline = time.monotonic() + 10
        while (status := visitor(verified.url + "/verified").status) != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert status == 200, (keys, (verified.folder / "direct.log").read_text())
