"""Other gateways that ask this one: the real servers with the shipped configurations, and an application that tells what it got."""

import contextlib
import http.client
import http.server
import json
import os
import posixpath
import re
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.parse

import pytest
from conftest import ROOT, Curl, Process, binary, free_port, vestibule

EXAMPLES = ROOT / "deploy" / "examples"
PAGE = ["--header", "Accept: text/html", "--header", "Sec-Fetch-Mode: navigate"]
NAMES = ["X-Auth-User", "X-Auth-Email", "X-Auth-Groups"]
# What applications may take for one of them.
TWINS = ["x-auth-user", "X_Auth_User", "X-Auth_User", "X.Auth.User", "x_auth.user"]


class Application(http.server.ThreadingHTTPServer):
    """Answers everything with what it got."""

    daemon_threads = True

    def __init__(self, port):
        self.seen = []
        super().__init__(("127.0.0.1", port), Echo)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """HAProxy resets connections that it needs no more."""


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        seen = {"method": self.command, "target": self.path, "fields": self.headers.items()}
        self.server.seen.append(seen)
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


def told(seen):
    """What a lax application takes for identity headers: by their letters alone, and not the empty ones."""
    letters = {re.sub("[^a-z0-9]", "", name.lower()) for name in NAMES}
    found = [(re.sub("[^a-z0-9]", "", name.lower()), value) for name, value in seen["fields"]]
    return sorted((name, value) for name, value in found if name in letters and value)


def nginx(folder):
    (folder / "main.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"include {folder}/nginx.conf; }}\n"
    )
    user = ["-g", "user root;"] if os.getuid() == 0 else []
    return [tool("nginx"), "-p", folder, "-c", folder / "main.conf", *user]


def traefik(_):
    return [tool("traefik"), "--configFile=traefik.yaml"]


def caddy(_):
    return [tool("caddy"), "run", "--config", "Caddyfile"]


def haproxy(_):
    return [tool("haproxy"), "-db", "-f", "haproxy.cfg"]


def envoy(_):
    return [tool("envoy"), "-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]


def tool(name):
    """The program of the Python packages, or of the system."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    found = beside if os.path.exists(beside) else shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"{name} is not installed; run `tests/setup.sh apps`")
    return found


SERVERS = {"nginx-auth-request": nginx, "traefik": traefik, "caddy": caddy, "envoy": envoy, "haproxy": haproxy}


class Front:
    """One of the servers before the application, with the gateway beside it."""

    def __init__(self, name, folder, port, application, gateway, passwords):
        self.name, self.folder, self.port, self.url = name, folder, port, f"http://localhost:{port}"
        self.application, self.gateway, self.passwords = application, gateway, passwords

    def sign_in(self, curl, user):
        page = curl(self.url + "/_vestibule/login", *PAGE)
        assert page.status == 200, page.body
        form = {"form_token": page.hidden("form_token"), "return_to": "/", "user": user, "password": self.passwords[user]}
        fields = [part for name, value in form.items() for part in ("--data-urlencode", f"{name}={value}")]
        answer = curl(self.url + "/_vestibule/login", *fields, "--header", f"Origin: {self.url}")
        assert answer.status == 303, answer.body
        return f"session={curl.cookies()['session']}"

    def raw(self, target, *fields, method="GET", timeout=20):
        """Status and what the application saw; the target goes out as it is."""
        self.application.seen.clear()
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as line:
            head = [f"{method} {target} HTTP/1.1", f"Host: localhost:{self.port}", "Connection: close", *fields]
            line.sendall("\r\n".join([*head, "", ""]).encode())
            answer = http.client.HTTPResponse(line, method=method)
            answer.begin()
            answer.read()
        return answer.status, list(self.application.seen), answer

    def until_it_passes(self, expected):
        deadline = time.monotonic() + 20
        while (passes := self.raw("/public")[0] == 200) != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        assert passes == expected, self.log() + (self.folder / "front.log").read_text()

    def log(self):
        return self.gateway.log.read_text()


@pytest.fixture(scope="module", params=SERVERS, ids=str)
def front(request, tmp_path_factory):
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    ports = {"8000": free_port(), "8080": free_port(), "3000": free_port()}
    for source in (EXAMPLES / name).iterdir():
        text = source.read_text()
        for written, free in ports.items():
            text = re.sub(rf"(?<=[: ]){written}\b", str(free), text)
        (folder / source.name).write_text(text)
    command = SERVERS[name](folder)
    with (folder / "vestibule.yaml").open("a") as file:
        file.write("\nlogs: { access: { format: json }, audit: { to: 'off' } }\n")
    passwords = {"alice": secrets.token_urlsafe(12), "bob": secrets.token_urlsafe(12)}
    users = ""
    for user, groups in [("alice", "[ops]"), ("bob", "[dev]")]:
        hashed = vestibule("password", "hash", stdin=passwords[user] + "\n").stdout.strip()
        users += f"{user}:\n  password: {hashed}\n  groups: {groups}\n"
    for file, text in [("session.key", vestibule("keys", "generate").stdout), ("users.yaml", users)]:
        (folder / file).write_text(text)
        (folder / file).chmod(0o600)
    application = Application(ports["3000"])
    with contextlib.ExitStack() as running:
        running.callback(application.server_close)
        running.callback(application.shutdown)
        run = [binary(), "run", "-c", folder / "vestibule.yaml"]
        address = f"http://127.0.0.1:{ports['8080']}/_vestibule/session"
        gateway = running.enter_context(Process(run, address, folder / "gateway.log"))
        url = f"http://localhost:{ports['8000']}/public"
        running.enter_context(Process(command, url, folder / "front.log", cwd=folder))
        front = Front(name, folder, ports["8000"], application, gateway, passwords)
        # Traefik answers before it has read its routes.
        front.until_it_passes(True)
        yield front


def test_the_walk_of_a_visitor(front, curl):
    stranger = curl(front.url + "/page?a=1&b=2", *PAGE)
    assert stranger.status == 302, stranger.body + front.log()
    assert stranger.header("Location") == f"{front.url}/_vestibule/login?return_to=%2Fpage%3Fa%3D1%26b%3D2"
    assert curl(front.url + "/page", "--header", "Accept: */*").status == 401
    assert front.application.seen == [] or all(seen["target"] == "/public" for seen in front.application.seen)
    cookie = front.sign_in(curl, "alice")
    page = curl(front.url + "/page?a=1&b=2")
    assert page.status == 200, page.body
    seen = json.loads(page.body)
    assert seen["target"] == "/page?a=1&b=2"
    assert told(seen) == [("xauthgroups", "ops"), ("xauthuser", "alice")]
    posted = curl(front.url + "/page", "--data", "a=b", "--header", f"Origin: {front.url}")
    assert (posted.status, json.loads(posted.body)["method"]) == (200, "POST")
    assert curl(front.url + "/ops").status == 200
    other = curl(front.url + "/page", "--data", "a=b", "--header", "Origin: https://evil.example.com",
                 "--header", "Sec-Fetch-Site: cross-site")
    assert other.status == 403, "another site's form"
    form_token = curl(front.url + "/_vestibule/logout", *PAGE).hidden("form_token")
    gone = curl(front.url + "/_vestibule/logout", "--data-urlencode", f"form_token={form_token}",
                "--header", f"Origin: {front.url}")
    assert gone.status in (200, 303), gone.body
    status, seen, _ = front.raw("/page", f"Cookie: {cookie}")
    assert (status, seen) == (401, []), "a copied cookie is dead at once"


def test_no_forged_identity_reaches_the_application(front, curl):
    cookie = front.sign_in(curl, "bob")
    for twin in TWINS:
        forged = [f"{twin}: root", "X-Auth-Groups: ops", f"{twin}: admin"]
        for target, fields, expected in [
            ("/public", [], []),
            ("/page", [f"Cookie: {cookie}"], [("xauthgroups", "dev"), ("xauthuser", "bob")]),
        ]:
            status, seen, _ = front.raw(target, *fields, *forged)
            assert status in (200, 400), (twin, target)
            if status == 200:
                assert told(seen[0]) == expected, (twin, target, seen)
        status, seen, _ = front.raw("/ops", f"Cookie: {cookie}", *forged)
        assert status in (400, 403) and seen == [], twin


def test_what_a_visitor_says_in_the_proxys_words_means_nothing(front, curl):
    cookie = front.sign_in(curl, "bob")
    words = [
        f"X-Original-URL: {front.url}/public", "X-Original-Method: GET", "X-Forwarded-Uri: /public", "X-Forwarded-Method: GET",
        "X-Forwarded-Host: other.example.com", "X-Rewrite-URL: /public", "X-Envoy-Original-Path: /public",
    ]
    for word in [[word] for word in words] + [words, ["Connection: X-Auth-User, X-Forwarded-Uri, X-Original-URL"]]:
        status, seen, _ = front.raw("/ops", f"Cookie: {cookie}", *word)
        assert status in (400, 403) and seen == [], word
        status, seen, _ = front.raw("/page", *word)
        assert status in (400, 401, 403) and seen == [], word


def resolved(target):
    """Where a path leads to the most obliging application: decoded to the end, without parameters, dots resolved."""
    path = target.split("?")[0].split("#")[0]
    while urllib.parse.unquote(path) != path:
        path = urllib.parse.unquote(path)
    path = re.sub(r";[^/]*", "", path.replace("\\", "/")).replace("\0", "")
    return posixpath.normpath("/" + path.lstrip("/"))


TRICKS = [
    "/public/../ops", "/public/%2e%2e/ops", "/public/%2E./ops", "/public/..%2fops", "/public%2f..%2fops", "/public/..;/ops",
    "/public/..;x=y/ops", "/public/%5c..%5cops", "/public\\..\\ops", "/public/%252e%252e/ops", "/public/%252e%252e%252fops",
    "//ops", "/./ops", "/%6fps", "/%6Fps/", "/ops;x", "/;/ops", "/public//../ops", "/public/./../ops", "/ops%2f", "/ops/%2e",
    "/public/%c0%ae%c0%ae/ops", "/public/..%00/ops", "/%2fops", "/public?/../ops", "/public/%2e%2e?/ops",
]


def test_no_spelling_of_a_path_leads_past_the_rule(front, curl):
    cookie = front.sign_in(curl, "bob")
    assert resolved("/public/%252e%252e%252fops") == "/ops"
    for trick in TRICKS:
        for fields in [[f"Cookie: {cookie}"], []]:
            status, seen, _ = front.raw(trick, *fields)
            for request in seen:
                leads = resolved(request["target"])
                assert not re.match(r"/ops(/|$)", leads), (trick, request["target"], status)
                assert fields or leads.startswith("/public"), (trick, request["target"], status)


def test_the_question_is_not_for_visitors(front, curl):
    cookie = front.sign_in(curl, "alice")
    words = [f"X-Original-URL: {front.url}/page", "X-Original-Method: GET", "X-Forwarded-Uri: /page", "X-Forwarded-Method: GET",
             "X-Forwarded-Proto: http", f"X-Forwarded-Host: localhost:{front.port}"]
    for path in ["", "/", "/page", "?redirect=1", "/../login", "/%2e%2e/login", "//", "/;x"]:
        for start in ["/_vestibule/auth", "/_vestibule/%61uth", "/_vestibule/x/../auth", "/_vestibule/./auth", "/_vestibule;/auth"]:
            status, seen, answer = front.raw(start + path, f"Cookie: {cookie}", *words)
            assert answer.getheader("X-Auth-User") is None, (start + path, status, answer.getheaders())
            assert seen == [], start + path


def test_where_the_gateway_does_not_know_the_proxy_nothing_passes(front):
    text = (front.folder / "vestibule.yaml").read_text()
    assert "from: [127.0.0.1]" in text

    def reload(text):
        (front.folder / "vestibule.yaml").write_text(text)
        front.gateway.process.send_signal(signal.SIGHUP)

    reload(text.replace("from: [127.0.0.1]", "from: [127.0.0.9]"))
    front.until_it_passes(False)
    assert front.raw("/public")[1] == []
    reload(text)
    front.until_it_passes(True)
    # A gateway that is not there lets nobody in either.
    os.kill(front.gateway.process.pid, signal.SIGSTOP)
    try:
        with contextlib.suppress(TimeoutError, OSError, http.client.HTTPException):
            assert front.raw("/ops", timeout=1)[0] >= 400
        assert front.application.seen == []
    finally:
        os.kill(front.gateway.process.pid, signal.SIGCONT)
    front.until_it_passes(True)
