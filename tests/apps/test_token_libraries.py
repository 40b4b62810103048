"""Tokens that other libraries make are believed, in every algorithm: joserfc and PyJWT (Python), jose (Node), golang-jwt (Go),
Crypt::JWT (Perl).

They share no code; golang-jwt signs with Go's own cryptography and Crypt::JWT with LibTomCrypt, where the others sign with
OpenSSL."""

import contextlib
import functools
import json
import os
import pathlib
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings

import jwt as pyjwt
import pytest
from conftest import TARGET, Process, binary, free_port
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt as joserfc
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

ISSUER, AUDIENCE = "https://id.example.com", "wiki"
SYMMETRIC = ["HS256", "HS384", "HS512"]
RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
ALGORITHMS = [*SYMMETRIC, *RSA, "ES256", "ES384", "EdDSA"]
JOSERFC_KEYS = {"HS": OctKey, "RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}

# One line in, one token out: {"alg", "key" (PKCS #8 in PEM, or the secret), "claims"}.
NODE = """
import { SignJWT, importPKCS8 } from 'jose'
import { createInterface } from 'node:readline'
for await (const line of createInterface({ input: process.stdin })) {
  const { alg, key, claims } = JSON.parse(line)
  const signer = alg.startsWith('HS') ? new TextEncoder().encode(key) : await importPKCS8(key, alg)
  console.log(await new SignJWT(claims).setProtectedHeader({ alg, typ: 'JWT' }).sign(signer))
}
"""

# The same for Perl, whose scalars are bytes until something decodes them.
PERL = """
use strict; use warnings;
use Crypt::JWT qw(encode_jwt);
use JSON;
my $asked = JSON->new->utf8->decode(scalar <STDIN>);
my $is_secret = $asked->{alg} =~ /^HS/;
my $key = $is_secret ? $asked->{key} : \\$asked->{key};
my $payload = JSON->new->utf8->encode($asked->{claims});
print encode_jwt(payload => $payload, alg => $asked->{alg}, key => $key, extra_headers => { typ => 'JWT' }), "\\n";
"""


class Keys:
    """A private key for each family, in PEM, or the secret."""

    def __init__(self):
        self.secret = secrets.token_urlsafe(64)
        made = {
            "RS": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "ES384": ec.generate_private_key(ec.SECP384R1()),
            "Ed": ed25519.Ed25519PrivateKey.generate(),
        }
        pem = serialization.Encoding.PEM
        pkcs8, spki = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
        self.private = {
            name: key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode() for name, key in made.items()
        }
        self.public = {name: key.public_key().public_bytes(pem, spki).decode() for name, key in made.items()}

    def of(self, algorithm):
        return self.secret if algorithm in SYMMETRIC else self.private[family(algorithm)]


def family(algorithm):
    return {"HS": "HS", "RS": "RS", "PS": "RS", "Ed": "Ed"}.get(algorithm[:2], algorithm)


def claims(subject):
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600, "groups": ["ops", "a,b"]}


def by_joserfc(algorithm, key, said):
    key = JOSERFC_KEYS[algorithm[:2]].import_key(key)
    with warnings.catch_warnings():
        # It advises the newer name, which has a test of its own below.
        warnings.filterwarnings("ignore", message="EdDSA is deprecated")
        return joserfc.encode({"alg": algorithm, "typ": "JWT"}, said, key, algorithms=[algorithm])


def by_pyjwt(algorithm, key, said):
    return pyjwt.encode(said, key, algorithm)


def by_jose(algorithm, key, said):
    modules = TARGET / "express" / "node_modules"
    assert (modules / "jose").exists(), "jose is not installed; run `tests/setup.sh apps`"
    # A module finds its packages from the folder that it lies in.
    script = modules.parent / f"tokens-{os.getpid()}.mjs"
    script.write_text(NODE)
    try:
        return by_program(["node", script], algorithm, key, said)
    finally:
        script.unlink()


@functools.cache
def go_program():
    """Builds tokens.go against Debian's package of the library, which lies where modules are not looked for."""
    folder, source = TARGET / "go", pathlib.Path(__file__).with_name("tokens.go")
    surroundings = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(folder / "cache")}
    built = subprocess.run(
        ["go", "build", "-o", folder / "tokens", source],
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, f"{built.stderr}\nis golang-jwt installed? `tests/setup.sh apps` brings it"
    return folder / "tokens"


def by_golang_jwt(algorithm, key, said):
    return by_program([go_program()], algorithm, key, said)


def by_crypt_jwt(algorithm, key, said):
    return by_program(["perl", "-e", PERL], algorithm, key, said)


def by_program(command, algorithm, key, said):
    asked = json.dumps({"alg": algorithm, "key": key, "claims": said})
    done = subprocess.run(command, input=asked + "\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


APPLICATION = """
import http.server, json, sys
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    keys, port, application = Keys(), free_port(), free_port()
    (folder / "shared.secret").write_text(keys.secret)
    (folder / "shared.secret").chmod(0o600)
    entries, routes = [], []
    for algorithm in ALGORITHMS:
        name = algorithm.lower()
        if algorithm in SYMMETRIC:
            where = "{ secret: { file: shared.secret } }"
        else:
            pathlib.Path(folder / f"{name}.pem").write_text(keys.public[family(algorithm)])
            where = f"{{ public_key: {name}.pem }}"
        entries.append(
            f"  {name}: {{ jwt: {{ issuer: {ISSUER}, audience: {AUDIENCE}, algorithms: [{algorithm}], keys: {where} }} }}"
        )
        routes.append(
            f"  - {{ name: {name}, path: /{name}, access: {{ tokens: [{name}], allow: everyone }}, upstream: app }}"
        )
    text = f"version: 1\nlisteners: [{{ address: 127.0.0.1:{port} }}]\nexternal_url: https://wiki.example.com\ntokens:\n"
    text += "\n".join(entries) + f"\nupstreams: {{ app: {{ servers: ['http://127.0.0.1:{application}'] }} }}\nroutes:\n"
    text += "  - { name: open, path: /open, access: public, upstream: app }\n" + "\n".join(routes) + "\n"
    (folder / "vestibule.yaml").write_text(text)
    with contextlib.ExitStack() as running:
        serve = [sys.executable, "-c", APPLICATION, application]
        running.enter_context(Process(serve, f"http://127.0.0.1:{application}/", folder / "application.log"))
        run = [binary(), "run", "-c", folder / "vestibule.yaml"]
        running.enter_context(Process(run, f"http://127.0.0.1:{port}/open", folder / "gateway.log"))
        yield keys, f"http://127.0.0.1:{port}"


def ask(url, token):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, {}


LIBRARIES = {
    "joserfc": by_joserfc,
    "PyJWT": by_pyjwt,
    "jose": by_jose,
    "golang-jwt": by_golang_jwt,
    "Crypt::JWT": by_crypt_jwt,
}


@pytest.mark.parametrize("make", LIBRARIES.values(), ids=LIBRARIES.keys())
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_every_library_and_algorithm_is_believed(gateway, algorithm, make):
    keys, url = gateway
    key = keys.of(algorithm)
    token = make(algorithm, key, claims("zoë"))
    status, seen = ask(f"{url}/{algorithm.lower()}", token)
    assert (status, seen.get("x-auth-user"), seen.get("x-auth-groups")) == (200, "zo%C3%AB", "ops,a%2Cb")
    # The same key under another name of an algorithm, and the same algorithm with another key, do not count.
    for other in ALGORITHMS:
        if other != algorithm:
            assert ask(f"{url}/{other.lower()}", token)[0] == 401, other
    stranger = make(algorithm, Keys().of(algorithm), claims("zoë"))
    assert ask(f"{url}/{algorithm.lower()}", stranger)[0] == 401
    late = {**claims("zoë"), "exp": int(time.time()) - 60}
    assert ask(f"{url}/{algorithm.lower()}", make(algorithm, key, late))[0] == 401


@pytest.mark.parametrize("make", [by_joserfc, by_jose], ids=["joserfc", "jose"])
def test_the_newer_name_of_eddsa_means_the_same(gateway, make):
    keys, url = gateway
    token = make("Ed25519", keys.of("EdDSA"), claims("alice"))
    status, seen = ask(f"{url}/eddsa", token)
    assert (status, seen.get("x-auth-user")) == (200, "alice")
    assert ask(f"{url}/eddsa", make("Ed25519", Keys().of("EdDSA"), claims("alice")))[0] == 401
