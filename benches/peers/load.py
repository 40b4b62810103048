"""The load: h2load as fast as answers come; `peers_load` at a fixed rate, and for WebSockets; and what both say afterwards.

h2load keeps a rate too, but sends each connection's requests in bursts, which is what its latencies then measure.
"""

import dataclasses
import re
import subprocess

import machine
import statistic

CONNECTIONS, STREAMS = 32, 8
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


def saturation(contender, job, entry, seconds, values):
    """As many requests as get through in so many seconds."""
    scheme, port = ("https", contender.ports["TLS_PORT"]) if job.tls else ("http", contender.ports[entry.port])
    connections, streams = (CONNECTIONS // 4, STREAMS) if job.http2 else (CONNECTIONS, 1)
    command = ["h2load", "--threads=1", f"--clients={connections}", f"--max-concurrent-streams={streams}", f"--duration={seconds}",
               f"--connect-to=127.0.0.1:{port}", *(["--h1"] if not job.http2 else [])]
    for field in (*FIELDS, *contender.credential(job.credential, values)):
        command.append(f"--header={field}")
    text = run([*command, f"{scheme}://localhost:{port}{entry.path}/page"], seconds)
    by_class, errors = statuses(text)
    expected = job.expected // 100 * 100
    others = sum(count for kind, count in by_class.items() if kind != expected)
    if others or errors or not by_class[expected]:
        raise ValueError(f"{contender.peer.name}: answers other than {job.expected}:\n{text}")
    return Outcome(by_class[expected], seconds, [])


def fixed(program, contender, job, entry, seconds, rate, values):
    """So many requests (or messages) a second; at a rate of 0 as fast as answers come."""
    websocket = job.key == "websocket"
    kind = "websocket" if websocket else "tls-h2" if job.http2 else "tls-h1" if job.tls else "h1"
    port = contender.ports["TLS_PORT" if job.tls else entry.port]
    path = entry.path if websocket else f"{entry.path}/page"
    fields = () if websocket else (*FIELDS, *contender.credential(job.credential, values))
    text = run([program, kind, port, path, CONNECTIONS, seconds, rate, job.expected, contender.folder / "tls.crt", *fields], seconds)
    count, span, *latencies = text.split()
    return Outcome(int(count), float(span), [int(latency) for latency in latencies])


def download(contender, entry):
    """Ten downloads one after the other; counted in MB."""
    port = contender.ports[entry.port]
    text = run(["h2load", "--h1", "--threads=1", "--clients=1", "--requests=10", f"--connect-to=127.0.0.1:{port}",
                f"http://localhost:{port}{entry.path}/100MB"], 60)
    by_class, errors = statuses(text)
    traffic = re.search(r"traffic: .*\((\d+)\) total", text)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s)", text)
    if by_class[200] != 10 or errors or int(traffic.group(1)) < 1_000_000_000:
        raise ValueError(f"{contender.peer.name}: not ten downloads:\n{text}")
    return Outcome(1000, float(finished.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1}[finished.group(2)], [])


def run(command, seconds):
    done = subprocess.run(machine.pinned(machine.LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise ValueError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def tail(latencies):
    """p50, p99 and p99.9, in microseconds."""
    return tuple(statistic.quantile(latencies, share) for share in (0.5, 0.99, 0.999))
