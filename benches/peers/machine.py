"""What the kernel says of processes and of the machine: where they run, what they used, how busy it is."""

import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = 0, 1
START_SECONDS = 30
USED_PORTS = set()


def free_port():
    """A port that nobody has, and that was not given before."""
    while True:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
        if port not in USED_PORTS:
            USED_PORTS.add(port)
            return port


def pinned(core, command):
    return ["taskset", "--cpu-list", str(core), *map(str, command)]


def ticks_of(stat):
    """User and system time, in ticks, and the session id, of one line of /proc/PID/stat (proc(5))."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]), int(fields[3])


def busy_share(before, after):
    """Share of all cores' time that was not idle between two first lines of /proc/stat."""
    spent = [later - sooner for sooner, later in zip(before, after)]
    total = sum(spent[:8])
    return 1 - (spent[3] + spent[4]) / total if total else 0.0


def cpu_times():
    return [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def busy_now(seconds=2.0):
    before = cpu_times()
    time.sleep(seconds)
    return busy_share(before, cpu_times())


def described():
    """The machine in one line."""
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}, Linux {platform.release()}"


class Server:
    """A server with all its processes, in a session of its own, on one core."""

    def __init__(self, name, command, port, core, folder, environment=None):
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                pinned(core, command), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.PIPE, cwd=folder,
                start_new_session=True, env={**os.environ, **(environment or {})},
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"{name} does not listen:\n{self.log.read_text()[-2000:]}") from None
                time.sleep(0.05)

    def _processes(self):
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    ticks, session = ticks_of((entry / "stat").read_text())
                except (OSError, IndexError):
                    continue  # it ended between the two look-ups
                if session == self.process.pid:
                    yield entry, ticks

    def cpu_seconds(self):
        """User and system time of its living processes."""
        return sum(ticks for _, ticks in self._processes()) / TICKS

    def resident_bytes(self):
        """Memory in use, pages that several processes share counted once (the PSS of proc(5))."""
        total = 0
        for entry, _ in self._processes():
            for line in (entry / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                pass
        for entry, _ in list(self._processes()):
            try:
                os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended by itself
        self.process.wait()
        self.process.stdin.close()


def found(program):
    """The path of a program that may lie where only root looks."""
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
