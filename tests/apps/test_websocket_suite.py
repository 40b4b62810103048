"""Autobahn's test suite of the WebSocket protocol, by kosoku, which drives its cases: frames, fragments, pings, UTF-8, closing, compression.

The gateway takes no part in what is said in a tunnel. So each case comes to the same verdict through it as without it.
"""

import asyncio
import concurrent.futures
import contextlib

import pytest
import websockets.asyncio.server
import websockets.exceptions
from conftest import Process, binary, free_port, vestibule
from kosoku import FailureError, run_fuzzingclient
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

CONFIG = """
version: 1
listeners: [{{ address: "127.0.0.1:{port}" }}]
external_url: http://localhost:{port}
upstreams: {{ echo: {{ servers: ["http://127.0.0.1:{application}"] }} }}
routes: [{{ name: echo, path: /, access: public, upstream: echo }}]
"""

# Everything but the suite's own measurements: hundreds of thousands of messages.
MEASUREMENTS = ["9.*", "12.*", "13.*"]
# Of those one of each kind: sixteen megabytes at once and in parts, a message in bytes of their own, a thousand compressed ones.
SOME = ["9.1.6", "9.2.6", "9.3.3", "9.4.3", "9.5.3", "9.6.3", "9.7.1", "9.8.1", "12.1.10", "12.5.3", "13.1.10", "13.7.3"]


async def echo(connection):
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def verdicts(folder):
    """What the suite says of each case, without the gateway and through it."""
    compression = [ServerPerMessageDeflateFactory()]
    server = await websockets.asyncio.server.serve(
        echo, "127.0.0.1", 0, max_size=None, compression=None, extensions=compression, ping_interval=None
    )
    async with server:
        application, port = server.sockets[0].getsockname()[1], free_port()
        (folder / "vestibule.yaml").write_text(CONFIG.format(port=port, application=application))
        run = [binary(), "run", "-c", folder / "vestibule.yaml"]
        gateway = await asyncio.to_thread(Process, run, f"http://localhost:{port}/", folder / "gateway.log")
        with gateway:
            return [{**await judged(number), **await judged(number, SOME)} for number in (application, port)]


async def judged(port, include=None):
    exclude = None if include else MEASUREMENTS
    try:
        results = await asyncio.wait_for(run_fuzzingclient(f"127.0.0.1:{port}", include, exclude), 600)
    except FailureError as failure:
        results = failure.results
    return {result.case_id: (strictly(result.behavior.value), result.behavior_close.value) for result in results}


def strictly(verdict):
    """Whether something is echoed before a violation is noticed is a matter of luck, with a gateway and without."""
    return "OK" if verdict == "NON-STRICT" else verdict


# Cases leave files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_case_comes_to_the_verdict_that_it_has_without_the_gateway(tmp_path):
    # A thread of its own: the browser's tests leave a loop running in this one.
    with concurrent.futures.ThreadPoolExecutor(1) as own:
        without, through = own.submit(lambda: asyncio.run(verdicts(tmp_path))).result()
    assert through == without
    good = [verdict for verdict in through.values() if "FAILED" not in verdict]
    # The application's library has a mind of its own about a case or two.
    assert len(good) > 250 and len(through) - len(good) < 3, through
