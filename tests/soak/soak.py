"""The gateway under a mixed load for an hour: `make soak`, or `SOAK=5m python3 tests/soak/soak.py`.

In each cycle visitors of every kind come and go (visitors.py), the file is reloaded every two seconds, and for the first part of it the
two applications die and come back in turn; after that no visitor may get a 502 or 503. Then everybody leaves, all sessions are ended, and the gateway is counted: its file
descriptors have to be what they were before the first cycle, its resident memory within 5 % of what it was after it. Anything else ends
the run with 1, so does an answer that a visitor should not have had. Before the load the TLS listener is looked at (tls.py).

What a load leaves resident is to a tenth chance: the allocator gives freed pages back when their thread next has something to do, and
threads that look after reloads live some seconds longer than these. So memory is weighed while single visitors come by, and what
counts is the level to which it falls. What is leaked does not fall. What has a bound is filled before the first cycle: the gateway
remembers how the last 16,384 sessions ended. And memory is counted in pages of 4 KiB: with the kernel's huge ones, which the allocator
asks for, it grows and falls in steps of 2 MiB, a twentieth of the whole.
"""

import asyncio
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tls
import upstream
import visitors

ROOT = pathlib.Path(__file__).resolve().parents[2]
GROWTH = 1.05
QUIET_SECONDS = 40
# Visitors of a round, one after the other; and how many rounds without a new least make a level, which may take so many at most.
SINGLE_VISITORS = 200
ROUNDS_FLAT, ROUNDS_MAX = 12, 60
# Sessions that are opened and ended before the first cycle, in batches: more ends than are remembered.
ENDS, BATCH = 18_000, 6_000
# Visitors of each kind at the same time.
AT_ONCE = 3
# The part of a cycle in which applications die.
DEADLY = 0.6
# How long what was asked of a dying application may come back as 502 or 503.
AFTERMATH_SECONDS = 3

CONFIG = """
version: 1
listeners:
  - {{ address: 127.0.0.1:{port} }}
  - address: 127.0.0.1:{tls_port}
    tls: {{ certificates: [{{ certificate: server.crt, key: server.key }}] }}
external_url: http://localhost:{port}
admin: {{ address: 127.0.0.1:{admin}, token: {{ file: admin.token }} }}
keys: [{{ file: session.key }}]
sessions: {{ per_subject: {{ max: 10000 }} }}
sign_in: {{ local: {{ password: {{ users: users.yaml }} }} }}
upstreams:
  app:
    servers: [http://127.0.0.1:{first}, http://127.0.0.1:{second}]
    timeouts: {{ idle: 2s }}
routes:
  - {{ name: public, path: /public, access: public, upstream: app }}
  - {{ name: page, path: /page, access: {{ sign_in: [local] }}, headers: {{ response: {{ set: {{ X-File: "{file}" }} }} }}, upstream: app }}
logs: {{ access: {{ to: 'off' }}, audit: {{ to: 'off' }}, events: {{ to: stderr }} }}
drain: 5s
"""


def seconds(text):
    """`5m`, `1h`, `90s`."""
    match = re.fullmatch(r"(\d+)([smh])", text)
    if not match:
        sys.exit(f"SOAK: `{text}` is no span; write 5m or 1h")
    return int(match.group(1)) * {"s": 1, "m": 60, "h": 3600}[match.group(2)]


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Gateway:
    """The built binary in a folder of its own."""

    def __init__(self, folder):
        path = pathlib.Path(os.environ.get("VESTIBULE_BIN", "target/debug/vestibule"))
        self.binary = path if path.is_absolute() else ROOT / path
        self.folder = folder
        self.ports = {name: free_port() for name in ("port", "tls_port", "admin", "first", "second")}
        self.password = secrets.token_urlsafe(12)
        tls.issue(folder)
        self.file("session.key", self.said("keys", "generate"))
        self.file("admin.token", secrets.token_urlsafe(32))
        self.file("users.yaml", f"alice:\n  password: {self.said('password', 'hash', given=self.password)}\n")
        self.configure(0)
        with (folder / "log").open("wb") as log:
            command = [self.binary, "run", "-c", folder / "vestibule.yaml"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "MIMALLOC_ALLOW_THP": "0"})

    def said(self, *arguments, given=""):
        done = subprocess.run([self.binary, *arguments], input=given + "\n", capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def file(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o600)

    def configure(self, number):
        """Writes the file anew, in one step: a half-written one is refused, which is not what is soaked here."""
        self.file("next.yaml", CONFIG.format(file=number, **self.ports))
        (self.folder / "next.yaml").rename(self.folder / "vestibule.yaml")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    async def started(self):
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.ports["tls_port"])
                writer.transport.abort()
                return
            except OSError:
                await asyncio.sleep(0.1)
        sys.exit(f"the gateway did not start:\n{(self.folder / 'log').read_text()}")


async def trouble(gateway, site, applications, span):
    """Reloads to the end, and applications that die and come back for the first part; then nothing excuses a 502. The number of reloads."""
    loop = asyncio.get_running_loop()
    began, turn = loop.time(), 0
    while (passed := loop.time() - began) < span:
        turn += 1
        gateway.configure(turn)
        gateway.process.send_signal(signal.SIGHUP)
        victim = applications[turn % 2]
        if passed < span * DEADLY:
            victim.die()
            last = loop.time()
        site.calm = loop.time() - last > AFTERMATH_SECONDS
        await asyncio.sleep(1)
        await victim.rise()
        await asyncio.sleep(1)
    return turn


async def cycle(gateway, site, applications, span):
    """One load; what should not have happened."""
    until, site.calm = asyncio.get_running_loop().time() + span, False
    kinds = [visitors.come_and_go(site, kind, until) for kind in visitors.KINDS for _ in range(AT_ONCE)]
    troubles = asyncio.create_task(trouble(gateway, site, applications, span))
    wrong = [what for what in await asyncio.gather(*kinds) if what]
    site.counts["reloads"] = await troubles
    return wrong


async def settled(gateway, site, descriptors, level):
    """Ends every session and waits, for so long as idle connections may last; the descriptors that are left, and the resident memory.

    `level` is what the memory was after the first load. As long as it is not back within the bound, there may be more to give back;
    once it is back altogether, nothing more is waited for.
    """
    await site.door("DELETE", "/sessions?source=local")
    await quiet(gateway, descriptors)
    least, flat = gateway.resident(), 0
    for _ in range(ROUNDS_MAX):
        if (level and least <= level) or (flat >= ROUNDS_FLAT and least <= (level or least) * GROWTH):
            break
        for _ in range(SINGLE_VISITORS):
            async with visitors.Connection(site) as visitor:
                await visitor.ask("GET", "/public/single")
        await asyncio.sleep(1)
        resident = gateway.resident()
        least, flat = (resident, 0) if resident < least else (least, flat + 1)
    await quiet(gateway, descriptors)
    return gateway.descriptors(), least


async def fill(site):
    """Has as many sessions end as the gateway remembers."""
    for _ in range(ENDS // BATCH):
        for _ in range(BATCH):
            await site.door("POST", "/sessions", {"subject": "alice"})
        await site.door("DELETE", "/sessions?source=local")


async def quiet(gateway, descriptors):
    """Waits until no more than these are open, at most for so long as idle connections may last."""
    for _ in range(QUIET_SECONDS * 2):
        if gateway.descriptors() <= descriptors:
            break
        await asyncio.sleep(0.5)


async def soak(gateway, span):
    """The verdict: a list of what failed."""
    applications = [upstream.Upstream(gateway.ports["first"]), upstream.Upstream(gateway.ports["second"])]
    for application in applications:
        await application.rise()
    await gateway.started()
    site = visitors.Site(gateway.ports["port"], gateway.ports["tls_port"], gateway.folder / "ca.crt", gateway.ports["admin"],
                         (gateway.folder / "admin.token").read_text(), gateway.password)
    failed = await asyncio.to_thread(tls.problems, gateway.folder, gateway.ports["tls_port"])
    await asyncio.sleep(3)
    start, first, began = gateway.descriptors(), None, time.monotonic()
    print(f"start: {start} descriptors, {gateway.resident() / 2**20:.1f} MiB resident; TLS: {'problems' if failed else 'as it should be'}", flush=True)
    await fill(site)
    length, number = min(60, max(20, span // 10)), 0
    while time.monotonic() - began < span or number < 2:
        number += 1
        site.counts = {}
        wrong = await cycle(gateway, site, applications, length)
        if gateway.process.poll() is not None:
            return [*failed, *wrong, f"the gateway ended with {gateway.process.returncode}"]
        descriptors, resident = await settled(gateway, site, start, first)
        first = first or resident
        failed += [f"cycle {number}: {what}" for what in wrong]
        if descriptors != start:
            failed.append(f"cycle {number}: {descriptors} descriptors, {start} before the load")
        told = ", ".join(f"{count} {what}" for what, count in sorted(site.counts.items()))
        print(f"cycle {number}: {descriptors} descriptors, {resident / 2**20:.1f} MiB ({resident / first:.3f} of the first); {told}", flush=True)
        for what in wrong:
            print(f"    {what}", flush=True)
    if resident > first * GROWTH:
        failed.append(f"{resident / 2**20:.1f} MiB resident at the end, {first / 2**20:.1f} MiB after the first cycle")
    for application in applications:
        application.die()
    return failed


def main():
    span = seconds(os.environ.get("SOAK", "1h"))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vestibule-soak-"))
    gateway = Gateway(folder)
    try:
        failed = asyncio.run(soak(gateway, span))
    finally:
        gateway.process.send_signal(signal.SIGTERM)
        try:
            ended = gateway.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            gateway.process.kill()
            ended = "kill, for it did not end by itself"
    log = (folder / "log").read_text()
    if ended != 0:
        failed.append(f"the gateway ended with {ended}")
    if "panicked" in log:
        failed.append(f"the gateway panicked:\n{log[log.index('panicked') - 200:][:2000]}")
    if failed:
        print("FAILED\n" + "\n".join(failed) + f"\nthe gateway's log: {folder / 'log'}", flush=True)
        sys.exit(1)
    shutil.rmtree(folder)
    print("the soak passed", flush=True)


if __name__ == "__main__":
    main()
