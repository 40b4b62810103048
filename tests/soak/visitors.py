"""Who comes to the gateway during a soak: the well-behaved, the slow, and those who go away in the middle."""

import asyncio
import html
import json
import random
import re
import socket
import ssl
import struct
import urllib.parse

PATIENCE = 30
HANDSHAKE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


class Refused(Exception):
    """An answer that this visitor should not have had."""


class Away(Exception):
    """The application died just now, or the gateway has too much to do: the visitor goes, and comes again."""


class Connection:
    """One connection to the gateway; `async with` ends it however the block ends."""

    def __init__(self, site, secure=False):
        self.site, self.secure = site, secure

    async def __aenter__(self):
        port = self.site.tls_port if self.secure else self.site.port
        options = {"ssl": self.site.trust, "server_hostname": "localhost"} if self.secure else {}
        opening = asyncio.open_connection("127.0.0.1", port, **options)
        self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE)
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    def reset(self):
        """Ends it with a reset instead of an orderly close."""
        plain = self.writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def send(self, method, path, fields="", body=""):
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        port = self.site.tls_port if self.secure else self.site.port
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{fields}{length}\r\n{body}".encode())

    async def head(self):
        text = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        lines = text.decode("latin-1").split("\r\n")
        fields = [line.partition(": ")[::2] for line in lines[1:] if line]
        return int(lines[0].split(" ")[1]), [(name.lower(), value) for name, value in fields]

    async def body(self, fields):
        named = dict(fields)
        if "content-length" in named:
            return await asyncio.wait_for(self.reader.readexactly(int(named["content-length"])), PATIENCE)
        if named.get("transfer-encoding") == "chunked":
            whole = b""
            while size := int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), PATIENCE), 16):
                whole += (await asyncio.wait_for(self.reader.readexactly(size + 2), PATIENCE))[:-2]
            await self.reader.readuntil(b"\r\n")
            return whole
        return b""

    async def ask(self, method, path, fields="", body="", expected=(200,)):
        self.send(method, path, fields, body)
        status, answered = await self.head()
        text = (await self.body(answered)).decode(errors="replace")
        # Its own paths may be too busy at any time: passwords are hashed one after the other.
        if status in (502, 503) and not (self.site.calm and not path.startswith("/_vestibule/")):
            raise Away(f"{status} for {path.partition('?')[0]}")
        if status not in expected:
            raise Refused(f"{method} {path}: {status} instead of {expected}: {text[:200]}")
        return status, answered, text


class Site:
    """The gateway as visitors know it, and what they lived through."""

    def __init__(self, port, tls_port, authority, admin, admin_token, password):
        self.port, self.tls_port, self.admin, self.admin_token, self.password = port, tls_port, admin, admin_token, password
        self.trust = ssl.create_default_context(cafile=authority)
        self.counts = {}
        # Both applications have been there for a while.
        self.calm = False

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def door(self, method, path, body=None):
        """A call at the operator's door; its JSON."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        try:
            text = json.dumps(body) if body is not None else ""
            writer.write((f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.admin_token}\r\n"
                          f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}").encode())
            answer = (await asyncio.wait_for(reader.read(), PATIENCE)).decode()
        finally:
            writer.transport.abort()
        head, _, text = answer.partition("\r\n\r\n")
        status = int(head.split(" ")[1])
        if status >= 400 and status != 404:
            raise Refused(f"{method} {path} at the operator's door: {status} {text[:200]}")
        return json.loads(text) if text else None


def hidden(page, name):
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    if not found:
        raise Refused(f"no field `{name}` in a form: {page[:200]}")
    return html.unescape(found.group(1))


def cookies(fields):
    return "; ".join(value.partition(";")[0] for name, value in fields if name == "set-cookie")


async def by_form(site):
    """Signs in by the form, opens a WebSocket, signs out, and sees the WebSocket end."""
    page = "Accept: text/html\r\n"
    origin = f"Origin: http://localhost:{site.port}\r\n"
    encoded = "Content-Type: application/x-www-form-urlencoded\r\n"
    async with Connection(site) as browser, Connection(site) as socket_:
        _, fields, form = await browser.ask("GET", "/_vestibule/login?return_to=/page", page)
        jar = cookies(fields)
        names = {name: hidden(form, name) for name in ("form_token", "return_to", "way")}
        data = urllib.parse.urlencode({"user": "alice", "password": site.password, **names})
        _, fields, _ = await browser.ask("POST", "/_vestibule/login", page + origin + encoded + f"Cookie: {jar}\r\n", data, (303,))
        jar = next((value.partition(";")[0] for name, value in fields if name == "set-cookie" and value.startswith("session=")), None)
        if jar is None:
            raise Refused(f"a sign-in without a cookie: {fields}")
        cookie = f"Cookie: {jar}\r\n"
        for _ in range(5):
            await browser.ask("GET", "/page", cookie)
        socket_.send("GET", "/page/ws", HANDSHAKE + cookie + origin)
        status, _ = await socket_.head()
        if status == 101:
            await talk(socket_)
        _, fields, form = await browser.ask("GET", "/_vestibule/logout", page + cookie)
        jar = "; ".join(filter(None, [jar, cookies(fields)]))
        data = urllib.parse.urlencode({"form_token": hidden(form, "form_token")})
        await browser.ask("POST", "/_vestibule/logout", page + origin + encoded + f"Cookie: {jar}\r\n", data, (200, 303))
        await browser.ask("GET", "/page", cookie, expected=(401,))
        if status == 101:
            # It ends within a second, unless the application's death ended it before.
            await asyncio.wait_for(socket_.reader.read(), 10)
    site.count("signed in and out by the form")


async def talk(connection):
    """A few messages and their echoes; an application that dies ends it early."""
    for turn in range(5):
        message = bytes([0x82, 0x80 | 4, 0, 0, 0, 0]) + bytes([turn] * 4)
        try:
            connection.writer.write(message)
            echo = await asyncio.wait_for(connection.reader.readexactly(6), PATIENCE)
        except (OSError, asyncio.IncompleteReadError):
            return
        if echo[2:] != bytes([turn] * 4):
            # A close frame, where the application died.
            if echo[0] == 0x88:
                return
            raise Refused(f"another echo: {echo}")


async def by_operator(site):
    """A session from the operator's door, used over one connection after the other, then ended there."""
    opened = await site.door("POST", "/sessions", {"subject": "alice"})
    cookie = f"Cookie: session={opened['cookie']['value']}\r\n"
    for _ in range(3):
        async with Connection(site) as browser:
            for _ in range(10):
                await browser.ask("GET", "/page", cookie)
    await site.door("DELETE", f"/sessions/{opened['id']}")
    async with Connection(site) as browser:
        await browser.ask("GET", "/page", cookie, expected=(401,))
    site.count("sessions by the operator")


async def over_tls(site):
    """Handshakes, pages, and an end without close_notify."""
    for _ in range(5):
        async with Connection(site, secure=True) as browser:
            for _ in range(5):
                await browser.ask("GET", "/public")
            site.count("over TLS")


async def downloads(site):
    """A whole download now and then; most are left in the middle, some by a reset."""
    async with Connection(site, secure=random.random() < 0.3) as browser:
        browser.send("GET", "/public/big")
        status, fields = await browser.head()
        if status != 200:
            raise (Refused if site.calm else Away)(f"{status} for /public/big")
        length = int(dict(fields)["content-length"])
        share = random.choice([1.0, 0.01, 0.3, 0.6])
        try:
            await asyncio.wait_for(browser.reader.readexactly(int(length * share)), PATIENCE)
        except (OSError, asyncio.IncompleteReadError):
            return site.count("downloads cut by the application")
        if share < 1 and not browser.secure:
            browser.reset()
        site.count("downloads" if share == 1 else "downloads left")


async def uploads(site):
    """Bodies in chunks; half of them end in the middle."""
    async with Connection(site) as browser:
        browser.send("POST", "/public/form", "Transfer-Encoding: chunked\r\n")
        for _ in range(random.randrange(1, 30)):
            browser.writer.write(b"1000\r\n" + b"y" * 4096 + b"\r\n")
            await browser.writer.drain()
        if random.random() < 0.5:
            browser.reset()
            return site.count("uploads left")
        browser.writer.write(b"0\r\n\r\n")
        status, fields = await browser.head()
        if status not in (200, 502, 503):
            raise Refused(f"an upload: {status}")
        await browser.body(fields)
        site.count("uploads")


async def slow(site):
    """A head byte by byte, and an answer that is read a little at a time; then away."""
    async with Connection(site) as browser:
        for byte in b"GET /public/big HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1":
            browser.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        if random.random() < 0.5:
            browser.reset()
            return site.count("slow clients")
        browser.writer.write(f"\r\n\r\n".encode())
        for _ in range(20):
            if not await asyncio.wait_for(browser.reader.read(1000), PATIENCE):
                break
            await asyncio.sleep(0.05)
        site.count("slow clients")


async def junk(site):
    """Heads that are refused, cookies and tokens that nobody gave, resets before anything was said."""
    for line in ["GET http:// HTTP/1.1", "GET /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", "\x00\x01\x02"]:
        async with Connection(site) as browser:
            browser.writer.write(f"{line}\r\nHost: localhost\r\n\r\n".encode("latin-1"))
            await asyncio.wait_for(browser.reader.read(), PATIENCE)
    for _ in range(20):
        async with Connection(site) as browser:
            await browser.ask("GET", "/page", f"Cookie: session={random.randbytes(32).hex()}\r\n", expected=(401,))
    for secure in (False, True):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.tls_port if secure else site.port)
        writer.write(b"\x16\x03\x01" if secure else b"GE")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    site.count("junk")


KINDS = (by_form, by_operator, over_tls, downloads, uploads, slow, junk)


async def come_and_go(site, kind, until):
    """One after the other of a kind, until the time is over; what should not have happened is returned."""
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        try:
            await asyncio.wait_for(kind(site), 3 * PATIENCE)
        except Away as away:
            site.count(str(away))
        except Refused as refused:
            return f"{kind.__name__}: {refused}"
        except asyncio.TimeoutError:
            return f"{kind.__name__}: nothing came for {PATIENCE} s"
        except (OSError, EOFError):
            site.count("connections that the gateway ended")
        await asyncio.sleep(0.02)
    return None
