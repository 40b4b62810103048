"""The same jobs by the gateway and by others: `make bench-peers`, or `python benches/peers/run.py --help`.

Proxy and load have a core each; the application runs beside the load, a service that a proxy asks beside the proxy. Rounds are
interleaved: each contender once, then each again, so that a busy minute of the machine falls on all. Before a job is
measured each contender has to do it: the page comes, the identity header arrives at the application, a forged one does not,
and without the credential the answer is 401.
"""

import argparse
import datetime
import http.client
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import contenders
import credentials
import load
import machine
import report
import statistic

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Above this share of both cores' time taken by others before the start, a warning stands in the report.
BUSY = 0.1


def whole(folder):
    """A path that holds wherever a contender is started."""
    return pathlib.Path(folder).resolve()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=whole, default=ROOT / "target" / "release", help="folder with vestibule and examples/peers_*")
    parser.add_argument("--wheels", type=whole, default=ROOT / "target" / "peers", help="virtual environment with Envoy, Caddy and Traefik")
    parser.add_argument("--results", default=ROOT / "benches" / "results", help="folder for the tables and plots")
    parser.add_argument("--jobs", default=",".join(job.key for job in contenders.JOBS), help="which, by comma: %(default)s")
    parser.add_argument("--only", default="", help="which contenders, by comma; left out: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load; a round has two")
    parser.add_argument("--remark", default="", help="what else the report says of this run, such as another build")
    return parser.parse_args()


def asked(contender, entry, job, path, values, fields):
    """The answer to one request, with `fields` besides; over plain HTTP, for what is checked is the same over TLS."""
    client = http.client.HTTPConnection("127.0.0.1", contender.ports[entry.port], timeout=10)
    lines = [*fields, *contender.credential(job, values)]
    headers = dict(line.split(": ", 1) for line in lines)
    client.request("GET", f"{entry.path}/{path}", headers={"Host": f"localhost:{contender.ports[entry.port]}", **headers})
    answer = client.getresponse()
    text = answer.read().decode()
    client.close()
    return answer.status, text


def check(contender, entry, job, values):
    """Does the contender do the job? An error says what it does instead."""
    if job.key == "websocket":
        return
    # The bare proxies touch no header and refuse nobody; that is what they are there to show.
    guards = not contender.peer.name.startswith("bare pingora")
    deadline = time.monotonic() + 5
    while True:
        status, text = asked(contender, entry, job.credential, "whoami", values, ["X-Auth-User: root"])
        # Traefik listens before it has its routes.
        if status != 404 or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    require(status == job.expected, contender, job, f"answers {status}: {text[:200]}")
    if job.expected == 200:
        user = "alice" if job.credential else ""
        if guards:
            require(f"user=[{user}]" in text, contender, job, f"`X-Auth-User` is not `{user}` at the application: {text}")
            require("for=[]" not in text, contender, job, f"no `X-Forwarded-For` at the application: {text}")
        status, text = asked(contender, entry, job.credential, "page", values, [])
        require(status == 200 and text == values["KIBIBYTE"], contender, job, f"another page: {status}")
    if job.credential and guards:
        status, text = asked(contender, entry, "", "whoami", values, [])
        require(status == 401, contender, job, f"answers {status} without a credential")


def require(holds, contender, job, what):
    if not holds:
        raise ValueError(f"{contender.peer.name}, {job.title}: {what}")


class Bench:
    """The application and the service, started; contenders come and go job by job."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.values = {**credentials.make(folder), "FOLDER": folder}
        self.peers = contenders.peers(options.target, options.wheels)
        self.versions = {key: contenders.version(peer) for key, peer in self.peers.items()}
        self.program = pathlib.Path(options.target) / "examples" / "peers_load"
        for name in ("UPSTREAM", "WEBSOCKET", "AUTH"):
            self.values[name] = machine.free_port()
        self.fixed, self.failed = [], False
        self.nginx("upstream", "UPSTREAM", machine.LOAD_CORE)
        self.service = self.nginx("auth_service", "AUTH", machine.PROXY_CORE)
        self.start("websocket", [self.program, "serve", self.values["WEBSOCKET"]], "WEBSOCKET", machine.LOAD_CORE)

    def nginx(self, name, port, core):
        file = self.folder / f"{name}.conf"
        file.write_text(contenders.filled((HERE / name / "nginx.conf").read_text(), self.values))
        return self.start(name, [contenders.NGINX, "-p", self.folder, "-g", "daemon off;", "-c", file], port, core)

    def start(self, name, command, port, core):
        server = machine.Server(name, command, self.values[port], core, self.folder)
        self.fixed.append(server)
        return server

    def stop(self):
        for server in self.fixed:
            server.stop()

    def job(self, job):
        """Runs one job; its table."""
        wanted = [word for word in self.options.only.split(",") if word]
        entries = [entry for entry in job.entries if not wanted or entry.peer in wanted]
        running, missing = {}, {}
        try:
            for entry in entries:
                if self.versions[entry.peer] is None:
                    missing[entry] = "not available here"
                    continue
                try:
                    if entry.peer not in running:
                        running[entry.peer] = contenders.Contender(self.peers[entry.peer], self.folder, self.values, self.service)
                    check(running[entry.peer], entry, job, self.values)
                except (RuntimeError, ValueError, OSError) as error:
                    print(f"{self.peers[entry.peer].name}, {job.title}: {error}", file=sys.stderr, flush=True)
                    missing[entry] = "does not do the job: see the run's messages"
                    self.failed = True
            return self.measured(job, entries, running, missing)
        finally:
            for contender in running.values():
                contender.server.stop()

    def measured(self, job, entries, running, missing):
        present = [entry for entry in entries if entry not in missing]
        spent = {entry: [] for entry in present}
        speed = {entry: [] for entry in present}
        tails = {entry: [] for entry in present}
        for entry in present:
            speed[entry].append(self.load(job, running[entry.peer], entry, 0).per_second)
        # A third of what the slowest reached, in round figures: the same for all.
        rate = 0 if job.key == "download" or not present else rounded(min(speed[entry][0] for entry in present) / 3)
        speed = {entry: [] for entry in present}
        for turn in range(self.options.rounds):
            for entry in present:
                contender = running[entry.peer]
                servers = contender.servers(entry.service)
                before = sum(server.cpu_seconds() for server in servers)
                outcome = self.load(job, contender, entry, 0)
                spent[entry].append((sum(server.cpu_seconds() for server in servers) - before) * 1e6 / outcome.count)
                speed[entry].append(outcome.per_second)
                if rate:
                    tails[entry].append(load.tail(self.load(job, contender, entry, rate).latencies))
            print(f"    {job.title}: round {turn + 1} of {self.options.rounds}", file=sys.stderr, flush=True)
        rows = []
        for entry in entries:
            name = f"{self.peers[entry.peer].name} {self.versions[entry.peer] or ''}".strip()
            name = name if entry.peer != "vestibule" else "vestibule"
            if entry in missing:
                rows.append(report.Row(name, entry.way, missing=missing[entry]))
                continue
            medians = tuple(statistic.Spread.of(column).median for column in zip(*tails[entry])) or (None, None, None)
            resident = sum(server.resident_bytes() for server in running[entry.peer].servers(entry.service))
            rows.append(report.Row(name, entry.way, statistic.Spread.of(spent[entry]), statistic.Spread.of(speed[entry]), medians, resident))
        return report.Table(job.key, job.title, job.unit, rate, rows)

    def load(self, job, contender, entry, rate):
        seconds = self.options.seconds
        if job.key == "download":
            return load.download(contender, entry)
        if rate or job.key == "websocket":
            return load.fixed(self.program, contender, job, entry, seconds, rate, self.values)
        return load.saturation(contender, job, entry, seconds, self.values)


def rounded(rate):
    """Down to two leading figures: 3,471 → 3,400."""
    step = 10 ** max(len(str(int(rate))) - 2, 0)
    return int(rate // step * step)


def main():
    options = arguments()
    by_key = {job.key: job for job in contenders.JOBS}
    jobs = [by_key[key] for key in options.jobs.split(",")]
    busy = machine.busy_now()
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    note = f"{when}; {machine.described()}; others used {busy:.0%} of the cores before the start"
    note += f"; {options.remark}" if options.remark else ""
    print(note + "\n", flush=True)
    if busy > BUSY:
        print("warning: the machine is not idle; CPU time a request suffers a little from that, speed and latencies much\n", flush=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vestibule-peers-"))
    folder.chmod(0o755)
    bench, tables = Bench(options, folder), []
    try:
        for job in jobs:
            try:
                table = bench.job(job)
            except (RuntimeError, ValueError, OSError, subprocess.TimeoutExpired) as error:
                print(f"{job.title}: {error}", file=sys.stderr, flush=True)
                bench.failed = True
                continue
            tables.append(table)
            print(report.text(table), flush=True)
            write(options, table, note)
    finally:
        bench.stop()
        shutil.rmtree(folder)
    return 1 if bench.failed else 0


def write(options, table, note):
    """A table and a plot a job, so that a run of some jobs leaves those of the others as they are."""
    results = pathlib.Path(options.results)
    results.mkdir(parents=True, exist_ok=True)
    command = f"{options.rounds} rounds of {options.seconds} s"
    (results / f"{table.key}.md").write_text(f"{report.markdown(table)}\n{note}; {command}.\n")
    (results / f"{table.key}.svg").write_text(report.svg(table, note))


if __name__ == "__main__":
    sys.exit(main())
