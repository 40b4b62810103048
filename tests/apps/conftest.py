"""The built binary and a Flask application on free loopback ports, and browsers to walk them with."""

import contextlib
import html
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLASK = ROOT / "deploy" / "examples" / "flask"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
SCREENSHOTS = TARGET / "screenshots"
START_SECONDS = 30
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def binary():
    path = pathlib.Path(os.environ.get("VESTIBULE_BIN", "target/debug/vestibule"))
    path = path if path.is_absolute() else ROOT / path
    assert path.exists(), f"{path} is not built; run `cargo build`, or set VESTIBULE_BIN"
    return path


def vestibule(*arguments, stdin="", **options):
    """Runs one command to its end."""
    return subprocess.run(
        [binary(), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60, **options
    )


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_until_it_answers(url, process, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended with {process.returncode}:\n{log.read_text()}"
        try:
            return urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as answer:
            return answer.close()
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer after {START_SECONDS} s:\n{log.read_text()}")


class Process:
    """A server that runs while a `with` block does; its output goes to a file."""

    def __init__(self, arguments, url, log, **options):
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                list(map(str, arguments)), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options
            )
        try:
            wait_until_it_answers(url, self.process, log)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Asks it to end; what it said comes back."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"it did not end within 15 s of SIGTERM:\n{self.log.read_text()}") from None
        return self.log.read_text()


class Guarded:
    """The Flask examples behind the gateway, as their README sets them up."""

    def __init__(self, folder, url, gateway, passwords):
        self.folder, self.url, self.gateway, self.passwords = folder, url, gateway, passwords

    def log(self):
        return self.gateway.log.read_text()


def users_yaml(passwords):
    groups = {"alice": "[ops, 'a,b']", "Zoë Müller": "[staff]"}
    text = ""
    for name, password in passwords.items():
        made = vestibule("password", "hash", stdin=password + "\n")
        assert made.returncode == 0, made.stderr
        text += f"{name}:\n  password: {made.stdout.strip()}\n  groups: {groups[name]}\n"
    return text


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flask")
    for source in FLASK.glob("*.py"):
        shutil.copy(source, folder)
    port, application, books = free_port(), free_port(), free_port()
    text = (FLASK / "vestibule.yaml").read_text()
    for written, free in [("8080", port), ("5000", application), ("5001", books)]:
        text = text.replace(written, str(free))
    (folder / "vestibule.yaml").write_text(text + "\nlogs:\n  access: { format: json }\n  audit: { format: json }\n")
    key = vestibule("keys", "generate")
    assert key.returncode == 0, key.stderr
    (folder / "session.key").write_text(key.stdout)
    (folder / "session.key").chmod(0o600)
    (folder / "assertion.pem").write_text(vestibule("keys", "generate", "--assertion").stdout)
    (folder / "assertion.pem").chmod(0o600)
    passwords = {"alice": secrets.token_urlsafe(12), "Zoë Müller": "pässword " + secrets.token_urlsafe(8)}
    (folder / "users.yaml").write_text(users_yaml(passwords))
    serve = [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{application}", "app:app"]
    workers = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{books}", "--workers", "2", "books:app"]
    run = [binary(), "run", "-c", folder / "vestibule.yaml"]
    url = f"http://localhost:{port}"
    with contextlib.ExitStack() as running:
        running.enter_context(Process(serve, f"http://127.0.0.1:{application}/empty", folder / "flask.log", cwd=folder))
        running.enter_context(Process(workers, f"http://127.0.0.1:{books}/books/", folder / "books.log", cwd=folder))
        gateway = running.enter_context(Process(run, url + "/public/", folder / "gateway.log"))
        yield Guarded(folder, url, gateway, passwords)


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no Chromium is installed; run `tests/setup.sh apps`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium):
    """Makes browsers: each call is a fresh profile."""
    contexts = []

    def fresh(**options):
        context = chromium.new_context(viewport={"width": 900, "height": 640}, **options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        return context

    yield fresh
    for context in contexts:
        context.close()


@pytest.fixture
def shoot(request):
    """Keeps a picture of a page under target/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    test = re.sub(r"\W+", "_", request.node.name)

    def shot(page, name):
        page.screenshot(path=SCREENSHOTS / f"{test}-{name}.png")

    return shot


class Curl:
    """curl with a cookie jar."""

    def __init__(self, folder):
        self.jar = folder / "cookies.txt"

    def __call__(self, url, *arguments):
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--include", "--max-time", "20", "--cookie", self.jar, "--cookie-jar",
             self.jar, *arguments, url],
            capture_output=True, timeout=40,
        )
        assert done.returncode == 0, done.stderr.decode()
        head, _, body = done.stdout.decode().partition("\r\n\r\n")
        status, *fields = head.split("\r\n")
        fields = [tuple(field.split(": ", 1)) if ": " in field else (field.rstrip(":"), "") for field in fields]
        return Answer(int(status.split(" ")[1]), fields, body)

    def cookies(self):
        """Name → value of what the jar holds."""
        lines = self.jar.read_text().splitlines() if self.jar.exists() else []
        lines = [line.removeprefix("#HttpOnly_").split("\t") for line in lines]
        return {line[5]: line[6] for line in lines if len(line) == 7}


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def header(self, name):
        values = self.headers(name)
        return values[0] if values else None

    def headers(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def hidden(self, name):
        """The value of a hidden field of the page's form."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.body)
        assert found, f"no field `{name}` in:\n{self.body}"
        return html.unescape(found.group(1))


@pytest.fixture
def curl(tmp_path):
    return Curl(tmp_path)
