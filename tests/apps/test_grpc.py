"""A gRPC service behind the gateway, called by the client library that gRPC's own people make: over TLS, and without."""

import concurrent.futures
import os
import threading
import time

import grpc
import jwt
import pytest

from conftest import Process, binary, free_port
from test_tls import issue

CONFIG = """
version: 1
listeners:
  - {{ address: "127.0.0.1:{plain}", external: {{ scheme: https, port: {secure} }} }}
  - address: "127.0.0.1:{secure}"
    tls: {{ certificates: [{{ certificate: server.crt, key: server.key }}] }}
tokens:
  api:
    jwt: {{ issuer: "https://id.example.com", audience: [calls], keys: {{ secret: {{ file: jwt.secret }} }}, algorithms: [HS256] }}
    claims: {{ groups: {{ from: groups }} }}
identity: {{ headers: {{ X-Auth-User: subject }} }}
upstreams:
  calls: {{ servers: ["h2c://127.0.0.1:{service}"] }}
  gone: {{ servers: ["h2c://127.0.0.1:{nobody}"] }}
routes:
  - {{ name: gone, path: /gone.Calls, access: {{ tokens: [api], allow: everyone }}, upstream: gone }}
  - {{ name: closed, path: /closed.Calls, access: {{ tokens: [api], allow: {{ groups: [nobody] }} }}, upstream: calls }}
  - {{ name: calls, path: /, access: {{ tokens: [api], allow: everyone }}, upstream: calls }}
"""
PATIENCE = 20
MEGABYTE = 1 << 20


class Service(grpc.GenericRpcHandler):
    """Messages are bytes: what is tried is how they travel."""

    def __init__(self):
        self.cancelled = threading.Event()
        self.server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(8),
            handlers=[self],
            options=[("grpc.max_receive_message_length", 8 * MEGABYTE)],
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, details):
        return {
            "/a.Calls/Who": grpc.unary_unary_rpc_method_handler(self.who),
            "/a.Calls/Fails": grpc.unary_unary_rpc_method_handler(self.fails),
            "/a.Calls/Late": grpc.unary_unary_rpc_method_handler(self.late),
            "/a.Calls/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/a.Calls/Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "/a.Calls/Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }.get(details.method)

    def who(self, request, context):
        told = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-first", "one")])
        context.set_trailing_metadata([("x-last", "two"), ("x-last-bin", b"\x00\xff")])
        return f"{told.get('x-auth-user')} {told.get('authorization')} {told.get('x-of-mine')} ".encode() + request

    def fails(self, request, context):
        context.set_trailing_metadata([("x-why-bin", b"\x01\x02")])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % sure, señor")

    def late(self, request, context):
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(PATIENCE)
        return b"nobody waits for this"

    def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()
        context.set_trailing_metadata([("x-counted", request.decode())])

    def sum(self, requests, context):
        return str(sum(len(part) for part in requests)).encode()

    def talk(self, requests, context):
        for request in requests:
            yield request[::-1]


class Calls:
    """A channel to the gateway, and a token."""

    def __init__(self, channel, secret):
        self.channel, self.secret = channel, secret

    def metadata(self):
        claims = {"iss": "https://id.example.com", "aud": "calls", "sub": "robot", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, self.secret, algorithm="HS256")
        return [("authorization", f"Bearer {token}"), ("x-of-mine", "mine"), ("x-auth-user", "root")]

    def unary(self, method, request=b"", timeout=PATIENCE, metadata=None):
        call = self.channel.unary_unary(method)
        return call.with_call(request, timeout=timeout, metadata=self.metadata() if metadata is None else metadata)


@pytest.fixture(scope="module")
def service():
    service = Service()
    yield service
    service.server.stop(None)


@pytest.fixture(scope="module")
def gateway(service, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grpc")
    issue(folder)
    secret = os.urandom(32).hex()
    (folder / "jwt.secret").write_text(secret)
    (folder / "jwt.secret").chmod(0o600)
    plain, secure = free_port(), free_port()
    ports = {"plain": plain, "secure": secure, "service": service.port, "nobody": free_port()}
    (folder / "vestibule.yaml").write_text(CONFIG.format(**ports))
    with Process([binary(), "run", "-c", folder / "vestibule.yaml"], f"http://localhost:{plain}/", folder / "gateway.log"):
        yield folder, plain, secure, secret


@pytest.fixture(params=["tls", "plain"])
def calls(request, gateway):
    folder, plain, secure, secret = gateway
    if request.param == "tls":
        roots = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes())
        channel = grpc.secure_channel(f"localhost:{secure}", roots)
    else:
        channel = grpc.insecure_channel(f"localhost:{plain}")
    with channel:
        yield Calls(channel, secret)


def test_a_call_says_who_makes_it_and_gets_metadata_before_and_after(calls):
    answer, call = calls.unary("/a.Calls/Who", b"hello")
    assert answer == b"robot None mine hello"
    assert dict(call.initial_metadata())["x-first"] == "one"
    trailing = dict(call.trailing_metadata())
    assert (trailing["x-last"], trailing["x-last-bin"]) == ("two", b"\x00\xff")
    assert call.code() == grpc.StatusCode.OK


def test_whoever_shows_no_token_is_not_authenticated(calls, service):
    for metadata in [[], [("authorization", "Bearer nothing")]]:
        with pytest.raises(grpc.RpcError) as refused:
            calls.unary("/a.Calls/Who", metadata=metadata)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert refused.value.details()


def test_whom_a_rule_refuses_is_denied(calls):
    with pytest.raises(grpc.RpcError) as refused:
        calls.unary("/closed.Calls/Who")
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_a_status_of_the_service_arrives_with_its_words(calls):
    with pytest.raises(grpc.RpcError) as failed:
        calls.unary("/a.Calls/Fails")
    assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "not today: 100 % sure, señor"
    assert dict(failed.value.trailing_metadata())["x-why-bin"] == b"\x01\x02"


def test_a_method_that_the_service_does_not_know_is_its_own_affair(calls):
    with pytest.raises(grpc.RpcError) as failed:
        calls.unary("/a.Calls/Nothing")
    assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_answers_stream(calls):
    call = calls.channel.unary_stream("/a.Calls/Count")(b"1000", timeout=PATIENCE, metadata=calls.metadata())
    assert [int(number) for number in call] == list(range(1000))
    assert dict(call.trailing_metadata())["x-counted"] == "1000"


def test_requests_stream(calls):
    parts = [bytes(MEGABYTE), b"", bytes(3 * MEGABYTE + 1)]
    call = calls.channel.stream_unary("/a.Calls/Sum")
    assert call(iter(parts), timeout=PATIENCE, metadata=calls.metadata()) == str(4 * MEGABYTE + 1).encode()


def test_both_sides_talk_in_turns(calls):
    heard = threading.Semaphore(0)

    def words():
        for number in range(50):
            # The next one leaves only when the one before was answered: nothing on the way may wait for more.
            yield f"word {number}".encode()
            assert heard.acquire(timeout=PATIENCE)

    answers = []
    for answer in calls.channel.stream_stream("/a.Calls/Talk")(words(), timeout=PATIENCE, metadata=calls.metadata()):
        answers.append(answer)
        heard.release()
    assert answers == [f"word {number}".encode()[::-1] for number in range(50)]


def test_a_deadline_ends_the_call_at_both_ends(calls, service):
    service.cancelled.clear()
    with pytest.raises(grpc.RpcError) as late:
        calls.unary("/a.Calls/Late", timeout=0.5)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.wait(PATIENCE), "the service goes on for nobody"


def test_a_service_that_is_gone_is_unavailable(calls):
    with pytest.raises(grpc.RpcError) as failed:
        calls.unary("/gone.Calls/Who")
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
