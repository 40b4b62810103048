"""Keys, tokens, certificates and sessions of one run, made afresh; none of them is worth anything elsewhere."""

import base64
import hmac
import http.client
import json
import pathlib
import re
import secrets
import subprocess
import time
import urllib.parse

ISSUER = "https://id.example.com"
USERS = """alice:
  password: $argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4
"""


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return base64url(json.dumps(value, separators=(",", ":")).encode())


def claims():
    # For a day: what is good for longer than a revocation is remembered is refused.
    return {"iss": ISSUER, "aud": "bench", "sub": "alice", "exp": int(time.time()) + 86_400}


def token_hs256(secret, payload):
    signed = compact({"alg": "HS256", "typ": "JWT"}) + "." + compact(payload)
    return signed + "." + base64url(hmac.digest(secret.encode(), signed.encode(), "sha256"))


def token_rs256(key, payload):
    signed = compact({"alg": "RS256", "typ": "JWT", "kid": "bench"}) + "." + compact(payload)
    made = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=signed.encode(), capture_output=True, check=True)
    return signed + "." + base64url(made.stdout)


def forged(token):
    """The same token under a signature of the same length that nobody made."""
    signed, _, signature = token.rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    return f"{signed}.{other}{signature[1:]}"


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make(folder: pathlib.Path):
    """Writes every file that a configuration names into `folder`; the values that stand in configurations come back."""
    session, secret = secrets.token_urlsafe(32), secrets.token_urlsafe(33)
    for name in ["tls", "issuer"]:
        kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if name == "tls" else ["rsa:2048"]
        openssl(folder, "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt",
                "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE")
    openssl(folder, "x509", "-in", "issuer.crt", "-noout", "-pubkey", "-out", "issuer.pem")
    modulus = subprocess.run(["openssl", "x509", "-in", "issuer.crt", "-noout", "-modulus"], cwd=folder, check=True,
                             capture_output=True, text=True).stdout.strip().partition("=")[2]
    rsa = {"kty": "RSA", "kid": "bench", "alg": "RS256", "use": "sig", "e": "AQAB", "n": base64url(bytes.fromhex(modulus))}
    symmetric = {"kty": "oct", "alg": "HS256", "k": base64url(secret.encode())}
    written = {
        "tls.pem": (folder / "tls.crt").read_text() + (folder / "tls.key").read_text(),
        "rs256.jwks": json.dumps({"keys": [rsa]}),
        "hs256.jwks": json.dumps({"keys": [symmetric]}),
        "jwt.secret": secret,
        "admin.token": secrets.token_urlsafe(32),
        "session.key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "sessions.map": f"{session} alice\n",
        "users.yaml": USERS,
    }
    for name, text in written.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    with (folder / "100MB").open("wb") as file:
        file.write(secrets.token_bytes(1_000_000) * 100)
    return {
        "SESSION": session,
        "SECRET": secret,
        "TOKEN_RS256": token_rs256(folder / "issuer.key", claims()),
        "TOKEN_HS256": token_hs256(secret, claims()),
        "KIBIBYTE": "x" * 1024,
    }


def require(holds, what):
    if not holds:
        raise ValueError(what)


def vestibule_session(ports, folder):
    """Opens a session through the operator's door; the cookie."""
    door = http.client.HTTPConnection("127.0.0.1", ports["ADMIN"], timeout=10)
    token = (folder / "admin.token").read_text()
    door.request("POST", "/sessions", json.dumps({"subject": "alice"}), {"Authorization": f"Bearer {token}"})
    answer = door.getresponse()
    text = answer.read().decode()
    require(answer.status == 201, f"POST /sessions: {answer.status} {text}")
    cookie = json.loads(text)["cookie"]
    return f"{cookie['name']}={cookie['value']}"


def apache_session(ports, secret):
    """Signs in as OpenID Connect says (form_post of an ID token that this bench, the provider, has signed); the cookie."""
    at = http.client.HTTPConnection("127.0.0.1", ports["PORT"], timeout=10)
    # The module ties a session to the host that it was opened on.
    host = {"Host": f"localhost:{ports['PORT']}"}
    at.request("GET", "/session/sign-in", headers={**host, "Accept": "text/html"})
    answer = at.getresponse()
    answer.read()
    location = answer.getheader("Location") or ""
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
    require(answer.status == 302 and "nonce" in asked, f"no sign-in: {answer.status} {location}")
    state_cookie = answer.getheader("Set-Cookie").partition(";")[0]
    payload = {**claims(), "nonce": asked["nonce"][0], "iat": int(time.time())}
    form = urllib.parse.urlencode({"id_token": token_hs256(secret, payload), "state": asked["state"][0]})
    at.request("POST", "/session/callback", form,
               {**host, "Cookie": state_cookie, "Content-Type": "application/x-www-form-urlencoded"})
    answer = at.getresponse()
    body = answer.read().decode(errors="replace")
    cookies = [re.match(r"(session=[^;]+)", value) for value in answer.headers.get_all("Set-Cookie") or []]
    cookies = [match.group(1) for match in cookies if match]
    require(cookies, f"no session: {answer.status} {body[:300]}")
    return cookies[0]
