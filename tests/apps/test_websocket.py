"""A WebSocket application behind the gateway: what a library and a browser see when the session ends."""

import secrets
import threading
import time

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server
from conftest import Process, binary, free_port, users_yaml, vestibule
from playwright.sync_api import expect
from test_chromium import fill_in
from test_curl import sign_in, sign_out

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
CUT_SECONDS = 1.5

CONFIG = """
version: 1
listeners: [{{ address: "127.0.0.1:{port}" }}]
external_url: http://localhost:{port}
keys: [{{ file: session.key }}]
sign_in: {{ local: {{ password: {{ users: users.yaml }} }} }}
upstreams: {{ chat: {{ servers: ["http://127.0.0.1:{application}"] }} }}
routes: [{{ name: chat, path: /, access: {{ sign_in: [local] }}, upstream: chat }}]
"""


class Chat:
    """Sends back what it gets; `/ticker` sends on its own all the time, `/goodbye` closes at once."""

    def __init__(self):
        self.closed = []
        self.server = websockets.sync.server.serve(
            self.talk, "127.0.0.1", 0, process_request=self.page, max_size=None
        )
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def page(self, connection, request):
        if "Upgrade" not in request.headers:
            return connection.respond(200, "a page\n")
        return None

    def talk(self, connection):
        try:
            if connection.request.path == "/ticker":
                while True:
                    connection.send("tick" * 100)
                    time.sleep(0.001)
            if connection.request.path == "/goodbye":
                connection.close(GOING_AWAY, "closing time")
            for message in connection:
                connection.send(message)
        except websockets.exceptions.ConnectionClosed:
            pass
        self.closed.append((connection.request.path, time.monotonic()))


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    chat = Chat()
    port = free_port()
    (folder / "vestibule.yaml").write_text(CONFIG.format(port=port, application=chat.port))
    key = folder / "session.key"
    key.write_text(vestibule("keys", "generate").stdout)
    key.chmod(0o600)
    chat.passwords = {"alice": secrets.token_urlsafe(12)}
    (folder / "users.yaml").write_text(users_yaml(chat.passwords))
    chat.url = f"http://localhost:{port}"
    chat.socket_url = f"ws://localhost:{port}"
    run = [binary(), "run", "-c", folder / "vestibule.yaml"]
    with Process(run, chat.url + "/_vestibule/login", folder / "gateway.log"):
        yield chat
    chat.server.shutdown()


def test_a_client_library_is_told_1008_when_the_session_ends(chat, curl):
    assert sign_in(curl, chat.url, "alice", chat.passwords["alice"]).status == 303
    cookie = {"Cookie": f"session={curl.cookies()['session']}"}

    def connect(path):
        return websockets.sync.client.connect(chat.socket_url + path, additional_headers=cookie, origin=chat.url)

    with connect("/echo") as idle, connect("/ticker") as busy:
        idle.send("hello")
        assert idle.recv(timeout=10) == "hello"
        assert busy.recv(timeout=10) == "tick" * 100
        chat.closed.clear()
        assert sign_out(curl, chat.url).status == 200
        ended = time.monotonic()
        for connection in [idle, busy]:
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
                while True:
                    connection.recv(timeout=10)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (POLICY_VIOLATION, "access ended")
            assert time.monotonic() - ended < CUT_SECONDS
    while len(chat.closed) < 2:
        assert time.monotonic() - ended < 10, f"the application saw {chat.closed}"
        time.sleep(0.01)
    assert all(at - ended < CUT_SECONDS for _, at in chat.closed), chat.closed


@pytest.mark.parametrize("compression", ["deflate", None])
def test_what_a_client_library_says_arrives(chat, curl, compression):
    assert sign_in(curl, chat.url, "alice", chat.passwords["alice"]).status == 303
    cookie = {"Cookie": f"session={curl.cookies()['session']}"}

    def connect(path):
        return websockets.sync.client.connect(
            chat.socket_url + path,
            additional_headers=cookie,
            origin=chat.url,
            compression=compression,
            max_size=None,
        )

    with connect("/echo") as connection:
        extensions = [extension.name for extension in connection.protocol.extensions]
        assert extensions == (["permessage-deflate"] if compression else [])
        for message in ["", "hello", "\u4f60\u597d" * 1000, b"", secrets.token_bytes(10 << 20), b"a" * (10 << 20)]:
            connection.send(message)
            assert connection.recv(timeout=60) == message
        # In parts, with a ping in between: the application answers it, not the gateway.
        pong = connection.ping(b"are you there")
        connection.send(["one, ", "two, ", "three"])
        assert connection.recv(timeout=10) == "one, two, three"
        assert pong.wait(timeout=10)
        for number in range(2000):
            connection.send(str(number))
        assert [connection.recv(timeout=10) for _ in range(2000)] == [str(number) for number in range(2000)]
        connection.close(1000, "enough")
        assert (connection.protocol.close_rcvd.code, connection.protocol.close_rcvd.reason) == (1000, "enough")
    with connect("/goodbye") as connection:
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            connection.recv(timeout=10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (GOING_AWAY, "closing time")


def test_a_browser_is_told_1008_when_another_tab_signs_out(chat, visitor):
    browser = visitor(locale="en-GB")
    page = browser.new_page()
    page.goto(chat.url + "/")
    fill_in(page, "alice", chat.passwords["alice"])
    expect(page.locator("body")).to_have_text("a page")
    page.evaluate(
        """() => new Promise((opened) => {
            const socket = new WebSocket(`ws://${location.host}/echo`);
            window.ending = new Promise((told) => { socket.onclose = (event) => told([event.code, event.wasClean]); });
            socket.onopen = () => socket.send('hello');
            socket.onmessage = opened;
        })"""
    )
    tab = browser.new_page()
    tab.goto(chat.url + "/_vestibule/logout")
    tab.get_by_role("button", name="Sign out").click()
    expect(tab.get_by_role("heading")).to_have_text("You are signed out")
    assert page.evaluate("window.ending") == [POLICY_VIOLATION, True]
