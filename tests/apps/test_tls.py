"""TLS of our own: an authority, a certificate, a person with Chromium and a script with curl."""

import base64
import contextlib
import datetime
import hashlib
import shutil
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from playwright.sync_api import expect, sync_playwright

from conftest import CHROMIUM, Process, binary, free_port
from test_chromium import LOGIN, fill_in


def openssl(*arguments, **options):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def issue(folder):
    """An authority in ca.crt, and a certificate of its for localhost in server.crt."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", 2, "-subj", "/CN=ours", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    openssl("req", *key, "-subj", "/CN=localhost", "-keyout", folder / "server.key", "-out", folder / "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", folder / "server.csr", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-days", 2,
            "-extfile", folder / "names", "-out", folder / "server.crt")


class Secured:
    """The Flask application behind a gateway with TLS, and a listener that leads there."""

    def __init__(self, folder, url, plain):
        self.folder, self.url, self.plain = folder, url, plain

    def pin(self):
        """What Chromium knows the certificate's key by."""
        public = openssl("x509", "-in", self.folder / "server.crt", "-noout", "-pubkey")
        der = openssl("pkey", "-pubin", "-outform", "der", input=public)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.fixture(scope="module")
def secured(guarded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    issue(folder)
    for name in ["session.key", "assertion.pem", "users.yaml"]:
        shutil.copy(guarded.folder / name, folder)
    text = (guarded.folder / "vestibule.yaml").read_text()
    secure, plain, before = free_port(), free_port(), guarded.url.rsplit(":", 1)[1]
    listeners = (
        f"  - {{ address: 127.0.0.1:{plain}, redirect: https }}\n"
        f"  - address: 127.0.0.1:{secure}\n"
        "    tls: { certificates: [{ certificate: server.crt, key: server.key }] }"
    )
    text = text.replace(f"  - address: 127.0.0.1:{before}", listeners)
    text = text.replace(f"http://localhost:{before}", f"https://localhost:{secure}")
    (folder / "vestibule.yaml").write_text(text)
    run = [binary(), "run", "-c", folder / "vestibule.yaml"]
    # Without TLS that port answers too, and says what it speaks.
    with Process(run, f"http://localhost:{secure}/", folder / "gateway.log"):
        yield Secured(folder, f"https://localhost:{secure}", f"http://localhost:{plain}")


@contextlib.contextmanager
def chromium_that_knows(pin):
    with sync_playwright() as playwright:
        arguments = [*CHROMIUM, f"--ignore-certificate-errors-spki-list={pin}"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield browser
        browser.close()


def walk(secured, password):
    with chromium_that_knows(secured.pin()) as chromium:
        browser = chromium.new_context()
        page = browser.new_page()
        page.goto(secured.plain + "/notes?order=new")
        expect(page).to_have_url(LOGIN)
        assert page.url.startswith(secured.url), page.url
        fill_in(page, "alice", password)
        expect(page).to_have_url(secured.url + "/notes?order=new")
        (cookie,) = [cookie for cookie in browser.cookies() if cookie["name"] == "__Host-session"]
        assert cookie["secure"] and cookie["httpOnly"]
        page.get_by_role("link", name="Sign out").click()
        page.get_by_role("button", name="Sign out").click()
        page.goto(secured.url + "/notes")
        expect(page).to_have_url(LOGIN)


def test_a_person_is_led_to_https_and_signs_in_there(secured, guarded):
    # One Playwright runs at a time in a thread, and the other tests have one.
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        aside.submit(walk, secured, guarded.passwords["alice"]).result()


def test_curl_believes_the_authority_and_openssl_finds_nothing_old(secured, curl):
    trusting = ["--cacert", str(secured.folder / "ca.crt")]
    assert curl(secured.url + "/public/", *trusting).status == 200
    followed = curl(secured.plain + "/public/")
    assert (followed.status, followed.header("location")) == (308, secured.url + "/public/")
    address = secured.url.removeprefix("https://")
    for version, spoken in [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]:
        # Security level 0: else OpenSSL itself would not offer the old ones.
        done = subprocess.run(
            ["openssl", "s_client", "-connect", address, "-servername", "localhost", "-CAfile", secured.folder / "ca.crt",
             "-verify_return_error", "-cipher", "DEFAULT@SECLEVEL=0", version],
            input=b"", capture_output=True, timeout=30,
        )
        assert (done.returncode == 0) == spoken, (version, done.stdout.decode(), done.stderr.decode())


def stapled(secured):
    """What OpenSSL's client is told of the certificate in the handshake."""
    address = secured.url.removeprefix("https://")
    return openssl("s_client", "-connect", address, "-servername", "localhost", "-CAfile", secured.folder / "ca.crt",
                   "-verify_return_error", "-status", input=b"").decode(errors="replace")


def until_told(secured, *texts):
    deadline = time.monotonic() + 20
    while not all(text in (said := stapled(secured)) for text in texts):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def said_long_ago(folder):
    """What the authority said of the certificate until yesterday; OpenSSL's responder has no past."""
    ca, server = (x509.load_pem_x509_certificate((folder / name).read_bytes()) for name in ("ca.crt", "server.crt"))
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    builder = ocsp.OCSPResponseBuilder().responder_id(ocsp.OCSPResponderEncoding.HASH, ca).add_response(
        server, ca, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, yesterday - datetime.timedelta(days=1), yesterday, None, None
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_what_the_authority_says_of_the_certificate_reaches_the_client(secured):
    folder = secured.folder
    assert "OCSP response: no response sent" in stapled(secured)
    serial = openssl("x509", "-in", folder / "server.crt", "-noout", "-serial").decode().strip().partition("=")[2]
    until = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)).strftime("%y%m%d%H%M%SZ")
    response = ["ocsp", "-index", folder / "index.txt", "-CA", folder / "ca.crt", "-rsigner", folder / "ca.crt", "-rkey", folder / "ca.key",
                "-issuer", folder / "ca.crt", "-cert", folder / "server.crt", "-ndays", 1, "-respout", folder / "server.crt.ocsp"]
    # The response is taken up when it appears, when another follows it, and gone with its file; it is the client who judges it.
    (folder / "index.txt").write_text(f"V\t{until}\t\t{serial}\tunknown\t/CN=localhost\n")
    openssl(*response)
    until_told(secured, "OCSP Response Status: successful", "Cert Status: good")
    (folder / "index.txt").write_text(f"R\t{until}\t200101000000Z\t{serial}\tunknown\t/CN=localhost\n")
    openssl(*response)
    until_told(secured, "Cert Status: revoked")
    # It counts until the instant that it names.
    (folder / "server.crt.ocsp").write_bytes(said_long_ago(folder))
    until_told(secured, "OCSP response: no response sent", "Verify return code: 0 (ok)")
    openssl(*response)
    until_told(secured, "Cert Status: revoked")
    # A client would break off over half of one.
    sound = (folder / "server.crt.ocsp").read_bytes()
    (folder / "server.crt.ocsp").write_bytes(sound[: len(sound) // 2])
    until_told(secured, "OCSP response: no response sent", "Verify return code: 0 (ok)")
    (folder / "server.crt.ocsp").write_bytes(sound)
    until_told(secured, "Cert Status: revoked")
    (folder / "server.crt.ocsp").unlink()
    until_told(secured, "OCSP response: no response sent")
