"""An application that dies and comes back: pages, long downloads, uploads, WebSocket echo."""

import asyncio

BLOCK = b"x" * 65_536
BLOCKS = 160


class Upstream:
    """Serves on one port; `die` resets every connection and refuses new ones until `rise`."""

    def __init__(self, port):
        self.port, self.server, self.writers = port, None, set()

    async def rise(self):
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    def die(self):
        if self.server is not None:
            self.server.close()
            self.server = None
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while await self.exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the other side went away, or this one died: both are what the soak is about
        finally:
            self.writers.discard(writer)
            writer.transport.abort()

    async def exchange(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if "\r\nupgrade: websocket" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            return await self.echo(reader, writer)
        await self.body(head, reader)
        if "/big" in head.partition("\r\n")[0]:
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BLOCK) * BLOCKS}\r\n\r\n".encode())
            for _ in range(BLOCKS):
                writer.write(BLOCK)
                await writer.drain()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n")
            await writer.drain()
        return True

    async def body(self, head, reader):
        if "\r\ntransfer-encoding: chunked" in head:
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\r\n")
        elif "\r\ncontent-length: " in head:
            await reader.readexactly(int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0]))

    async def echo(self, reader, writer):
        """Frames of up to 125 bytes, unmasked and sent back; a close frame too, and then the end."""
        while True:
            first, length = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length & 127)))
            writer.write(bytes([first, len(payload)]) + payload)
            await writer.drain()
            if first & 15 == 8:
                return False
