"""The load: h2load for HTTP, `peers_websocket` for WebSockets; and what both say afterwards."""

import dataclasses
import re
import subprocess

import machine
import statistic

CONNECTIONS, STREAMS, WEBSOCKETS = 32, 8, 16
# What a browser's script sends, less the credential.
FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: application/json, text/plain, */*",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Sec-Fetch-Dest: empty",
    "Sec-Fetch-Mode: cors",
    "Sec-Fetch-Site: same-origin",
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one load did: answers (or messages, or MB), over how many seconds, and each one's microseconds, sorted."""

    count: float
    seconds: float
    latencies: list

    @property
    def per_second(self):
        return self.count / self.seconds


def statuses(text):
    """Answers by class of their status, and those that failed without one, as h2load tells them."""
    found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    failed = re.search(r"requests: .* (\d+) failed, (\d+) errored, (\d+) timeout", text)
    if not found or not failed:
        raise ValueError(f"h2load says something else:\n{text}")
    by_class = {kind: int(count) for kind, count in zip((200, 300, 400, 500), found.groups())}
    return by_class, max(int(failed.group(2)), int(failed.group(3)))


def log_latencies(text):
    """Microseconds of each answer in h2load's log (start, status, duration), sorted."""
    return sorted(int(line.split("\t")[2]) for line in text.splitlines() if line.count("\t") >= 2)


def http(contender, job, path, seconds, rate, values):
    """Loads `path` for so many seconds; `rate` requests a second, or as many as get through where it is 0."""
    scheme, port = ("https", contender.ports["TLS_PORT"]) if job.tls else ("http", contender.ports[path.port])
    connections, streams = (CONNECTIONS // 4, STREAMS) if job.http2 else (CONNECTIONS, 1)
    log = contender.folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "--threads=1", f"--clients={connections}", f"--max-concurrent-streams={streams}", f"--duration={seconds}",
               f"--connect-to=127.0.0.1:{port}", *(["--h1"] if not job.http2 else [])]
    if rate:
        command += [f"--rps={rate / connections:.3f}", f"--log-file={log}"]
    for field in (*FIELDS, *contender.credential(job.credential, values)):
        command.append(f"--header={field}")
    text = run([*command, f"{scheme}://localhost:{port}{path.path}/page"], seconds)
    by_class, errors = statuses(text)
    expected = job.expected // 100 * 100
    others = sum(count for kind, count in by_class.items() if kind != expected)
    if others or errors or not by_class[expected]:
        raise ValueError(f"{contender.peer.name}: answers other than {job.expected}:\n{text}")
    return Outcome(by_class[expected], seconds, log_latencies(log.read_text()) if rate else [])


def download(contender, path, _seconds, values):
    """Ten downloads one after the other; counted in MB."""
    port = contender.ports[path.port]
    text = run(["h2load", "--h1", "--threads=1", "--clients=1", "--requests=10", "--window-bits=30", f"--connect-to=127.0.0.1:{port}",
                f"http://localhost:{port}{path.path}/100MB"], 60)
    by_class, errors = statuses(text)
    traffic = re.search(r"traffic: .*\((\d+)\) total", text)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", text)
    if by_class[200] != 10 or errors or int(traffic.group(1)) < 1_000_000_000:
        raise ValueError(f"{contender.peer.name}: not ten downloads:\n{text}")
    return Outcome(1000, float(finished.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1}[finished.group(2)], [])


def websocket(contender, program, path, seconds, rate):
    text = run([program, "load", contender.ports[path.port], path.path, WEBSOCKETS, seconds, int(rate)], seconds)
    count, span, *latencies = text.split()
    return Outcome(int(count), min(float(span), seconds) if rate == 0 else float(span), [int(latency) for latency in latencies])


def run(command, seconds):
    done = subprocess.run(machine.pinned(machine.LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise ValueError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def tail(latencies):
    """p50, p99 and p99.9, in microseconds."""
    return tuple(statistic.quantile(latencies, share) for share in (0.5, 0.99, 0.999))
