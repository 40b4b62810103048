"""Who takes part, how each is started, and in which jobs."""

import dataclasses
import pathlib
import re
import subprocess

import credentials
import machine

HERE = pathlib.Path(__file__).resolve().parent
NGINX = "/usr/sbin/nginx"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A program with one configuration."""

    name: str
    program: str
    version: tuple
    command: tuple
    files: tuple = ()
    environment: tuple = ()


@dataclasses.dataclass(frozen=True)
class Entry:
    """A peer in a job: the path below which it does it, and what has to be known of the way it does."""

    peer: str
    path: str
    way: str = ""
    service: bool = False
    port: str = "PORT"


@dataclasses.dataclass(frozen=True)
class Job:
    """One row of work that all entries do alike."""

    key: str
    title: str
    unit: str
    entries: tuple
    credential: str = ""
    expected: int = 200
    tls: bool = False
    http2: bool = False


def peers(target, wheels):
    """All of them by key. `target`: the folder with our release build; `wheels`: the virtual environment."""
    envoy = next(pathlib.Path(wheels).glob("lib/python*/site-packages/envoy/_bin/envoy"), pathlib.Path("envoy"))
    nginx = ("-p", "@FOLDER@", "-g", "daemon off;", "-c")
    return {
        "vestibule": Peer("vestibule", f"{target}/vestibule", ("--version",), ("run", "-c", "@FOLDER@/vestibule.yaml"),
                          (("vestibule/vestibule.yaml", "vestibule.yaml"),)),
        "bare": Peer("bare pingora", f"{target}/examples/peers_bare", (), ("127.0.0.1:@PORT@", "127.0.0.1:@UPSTREAM@")),
        "bare-default": Peer("bare pingora, as it comes", f"{target}/examples/peers_bare_default", (),
                             ("127.0.0.1:@PORT@", "127.0.0.1:@UPSTREAM@")),
        "nginx": Peer("nginx", NGINX, ("-v",), (*nginx, "@FOLDER@/nginx.conf"), (("nginx/nginx.conf", "nginx.conf"),)),
        "lua": Peer("nginx + lua", NGINX, ("-v",), (*nginx, "@FOLDER@/lua.conf"), (("nginx/lua.conf", "lua.conf"),)),
        "haproxy": Peer("HAProxy", "/usr/sbin/haproxy", ("-v",), ("-W", "-f", "@FOLDER@/haproxy.cfg"),
                        (("haproxy/haproxy.cfg", "haproxy.cfg"),)),
        "envoy": Peer("Envoy", str(envoy), ("--version",),
                      ("-c", "@FOLDER@/envoy.yaml", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"),
                      (("envoy/envoy.yaml", "envoy.yaml"),)),
        "caddy": Peer("Caddy", f"{wheels}/bin/caddy", ("version",), ("run", "--config", "@FOLDER@/Caddyfile", "--adapter", "caddyfile"),
                      (("caddy/Caddyfile", "Caddyfile"),), (("GOMAXPROCS", "1"), ("HOME", "@FOLDER@"))),
        "traefik": Peer("Traefik", f"{wheels}/bin/traefik", ("version",), ("--configFile=@FOLDER@/traefik.yaml",),
                        (("traefik/traefik.yaml", "traefik.yaml"), ("traefik/routes.yaml", "traefik-routes.yaml")),
                        (("GOMAXPROCS", "1"),)),
        "apache": Peer("Apache", "/usr/sbin/apache2", ("-v",), ("-D", "FOREGROUND", "-f", "@FOLDER@/apache.conf"),
                       (("apache/apache.conf", "apache.conf"),)),
    }


# It passes the same request on; it is what guarding is measured by.
BARE = Entry("bare", "/plain", "guards nothing")
FRONT = ("vestibule", "nginx", "haproxy")


def front(path):
    return tuple(Entry(peer, path) for peer in FRONT)


def tokens(algorithm):
    path = f"/{algorithm}"
    return (
        Entry("vestibule", path, "verified once, then remembered"),
        Entry("haproxy", path, "jwt_verify"),
        Entry("envoy", path, "jwt_authn with its cache"),
        Entry("apache", path, "mod_auth_openidc, oauth20", port="HS256_PORT" if algorithm == "hs256" else "PORT"),
        Entry("nginx", path, "auth_request; the service checks no signature", service=True),
        Entry("caddy", path, "forward_auth; the service checks no signature", service=True),
        Entry("traefik", path, "ForwardAuth; the service checks no signature", service=True),
    )


SESSIONS = (
    Entry("vestibule", "/session", "session table"),
    Entry("nginx", "/map", "map in the file: a change is a reload"),
    Entry("haproxy", "/session", "map file; changes by the runtime socket"),
    Entry("lua", "/session", "shared dictionary"),
    Entry("nginx", "/session", "auth_request and its service", service=True),
    Entry("envoy", "/session", "ext_authz and its service", service=True),
    Entry("apache", "/session", "mod_auth_openidc, its session in shared memory"),
    Entry("caddy", "/session", "forward_auth and its service", service=True),
    Entry("traefik", "/session", "ForwardAuth and its service", service=True),
)

# Those of issue order: the front door first, then the guarded pages.
JOBS = (
    Job("h1", "Plain proxy, HTTP/1.1", "request", (
        Entry("vestibule", "/plain", "public route"),
        Entry("bare", "/plain", "same settings and allocator"),
        Entry("bare-default", "/plain", "its own settings, the system's allocator"),
        *(Entry(peer, "/plain") for peer in ("nginx", "haproxy", "envoy", "apache", "caddy", "traefik")),
    )),
    Job("tls-h1", "HTTP/1.1 over TLS 1.3", "request", front("/plain"), tls=True),
    Job("tls-h2", "HTTP/2 over TLS 1.3", "request", front("/plain"), tls=True, http2=True),
    Job("websocket", "WebSocket echo, messages of 128 bytes", "message", front("/ws")),
    Job("download", "Downloads of 100 MB", "MB", front("/plain")),
    Job("rs256", "JWT, RS256, subject as header", "request", (*tokens("rs256"), BARE), "rs256"),
    Job("hs256", "JWT, HS256, subject as header", "request", (*tokens("hs256"), BARE), "hs256"),
    Job("session", "Opaque session cookie, subject as header", "request", (*SESSIONS, BARE), "session"),
    Job("bad-token", "401 for a forged JWT (RS256)", "request", tokens("rs256"), "bad-token", 401),
    Job("bad-session", "401 for a cookie that nobody issued", "request", SESSIONS, "bad-session", 401),
)


def version(peer):
    """What the program says of itself, in a word; None where it is not there."""
    if not pathlib.Path(peer.program).exists():
        return None
    if not peer.version:
        return "0.9.1" if "bare" in peer.program else ""
    said = subprocess.run([peer.program, *peer.version], capture_output=True, text=True, timeout=30)
    match = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return match.group() if match and said.returncode == 0 else None


def filled(text, values):
    """`text` with each @NAME@ replaced; a name without a value is an error."""
    return re.sub(r"@([A-Z0-9_]+)@", lambda name: str(values[name.group(1)]), text)


class Contender:
    """A peer that runs, with the service it asks where it has one."""

    def __init__(self, peer, folder, values, service):
        self.peer, self.folder, self.service = peer, folder, service
        self.ports = {name: machine.free_port() for name in ("PORT", "TLS_PORT", "HS256_PORT", "ADMIN")}
        values = {**values, **self.ports}
        for source, name in peer.files:
            (folder / name).write_text(filled((HERE / source).read_text(), values))
        command = [peer.program, *(filled(part, values) for part in peer.command)]
        environment = {name: filled(value, values) for name, value in peer.environment}
        self.server = machine.Server(peer.name.replace(" ", "-"), command, self.ports["PORT"], machine.PROXY_CORE, folder, environment)
        try:
            self.session = self.sign_in(values)
        except BaseException:
            self.server.stop()
            raise

    def sign_in(self, values):
        """The cookie of a session: one of the peer's making where it makes them."""
        if self.peer.name == "vestibule":
            return credentials.vestibule_session(self.ports, self.folder)
        if self.peer.name == "Apache":
            return credentials.apache_session(self.ports, values["SECRET"])
        return f"session={values['SESSION']}"

    def credential(self, kind, values):
        """The header line of a credential, or none."""
        name, _, value = self.session.partition("=")
        return {
            "": [],
            "rs256": [f"Authorization: Bearer {values['TOKEN_RS256']}"],
            "hs256": [f"Authorization: Bearer {values['TOKEN_HS256']}"],
            "session": [f"Cookie: {self.session}"],
            "bad-token": [f"Authorization: Bearer {credentials.forged(values['TOKEN_RS256'])}"],
            "bad-session": [f"Cookie: {name}={value[::-1]}"],
        }[kind]

    def servers(self, service):
        return [self.server, self.service] if service else [self.server]
