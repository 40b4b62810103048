"""A TLS listener as openssl and testssl.sh see it: what must not be spoken is not, what must be is."""

import datetime
import json
import shutil
import subprocess

# What testssl.sh finds besides, of a listener on loopback whose authority was made a minute ago.
EXPECTED = {"cert_chain_of_trust", "cert_revocation", "cert_crlDistributionPoints", "cert_ocspURL", "cert_trust", "DNS_CAArecord", "engine_problem"}
SEVERE = {"MEDIUM", "HIGH", "CRITICAL"}
# Without forward secrecy or without authenticated encryption, or broken outright (RFC 9325 §4.2).
WEAK = "AES128-SHA:AES256-SHA:AES128-GCM-SHA256:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:DES-CBC3-SHA:NULL-SHA:aNULL:RC4"


def openssl(folder, *arguments, check=True):
    done = subprocess.run(["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True, input="", timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")
    return done


def issue(folder):
    """An authority, its certificate for localhost, and what the authority says of that one (RFC 6960), to be stapled."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(folder, "req", "-x509", *key, "-days", 90, "-subj", "/CN=ours", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(folder, "req", *key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", 90,
            "-extfile", "names", "-out", "server.crt")
    (folder / "server.key").chmod(0o600)
    serial = openssl(folder, "x509", "-in", "server.crt", "-noout", "-serial").stdout.strip().partition("=")[2]
    until = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=90)).strftime("%y%m%d%H%M%SZ")
    (folder / "index.txt").write_text(f"V\t{until}\t\t{serial}\tunknown\t/CN=localhost\n")
    openssl(folder, "ocsp", "-index", "index.txt", "-CA", "ca.crt", "-rsigner", "ca.crt", "-rkey", "ca.key", "-issuer", "ca.crt",
            "-cert", "server.crt", "-ndays", 7, "-respout", "server.crt.ocsp")


def problems(folder, port):
    """Everything that is not as it should be, a line each."""
    found = []

    def client(*arguments):
        said = openssl(folder, "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile", "ca.crt",
                       *arguments, check=False)
        return said.stdout + said.stderr

    def expect(holds, what):
        if not holds:
            found.append(what)

    for version in ["-tls1", "-tls1_1"]:
        said = client(version, "-cipher", "ALL:@SECLEVEL=0")
        expect("Cipher is (NONE)" in said, f"openssl s_client {version} succeeds")
    for version, name in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")]:
        said = client(version)
        expect("Verify return code: 0 (ok)" in said and name in said, f"openssl s_client {version} fails:\n{said}")
    said = client("-tls1_2", "-cipher", f"{WEAK}:@SECLEVEL=0")
    expect("Cipher is (NONE)" in said, "a weak cipher suite is agreed on")
    said = client("-status")
    expect("OCSP Response Status: successful" in said and "Cert Status: good" in said, "no OCSP response is stapled")
    expect("Compression: NONE" in said, "TLS compression is on")
    for protocol in ["h2", "http/1.1"]:
        expect(f"ALPN protocol: {protocol}" in client("-alpn", protocol), f"ALPN does not settle on {protocol}")
    client("-tls1_2", "-sess_out", "session.pem")
    expect("Reused, TLSv1.2" in client("-tls1_2", "-sess_in", "session.pem"), "a session ticket does not resume")
    return found + testssl(folder, port)


def testssl(folder, port):
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if not program:
        return ["testssl.sh is not installed; run `tests/setup.sh soak`"]
    out = folder / "testssl.json"
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [program, "--quiet", "--warnings", "off", "--color", "0", "--jsonfile", out, "--ip", "127.0.0.1", "--nodns", "none",
         "-p", "-s", "-f", "-S", "-U", f"localhost:{port}"],
        capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL,
    )
    if not out.exists():
        return [f"testssl.sh wrote nothing:\n{done.stdout[-1000:]}{done.stderr[-1000:]}"]
    findings = json.loads(out.read_text())
    if len(findings) < 30:
        return [f"testssl.sh looked at little:\n{done.stdout[-1500:]}"]
    severe = [finding for finding in findings if finding["severity"] in SEVERE]
    return [f"testssl.sh: {finding['id']}: {finding['finding']}" for finding in severe if finding["id"].split(" ")[0] not in EXPECTED]
