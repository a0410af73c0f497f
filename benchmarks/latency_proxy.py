"""A proxy that puts the S3 server further away, and counts the requests.

Each byte arrives half a round trip later, in both directions, as on a longer wire; the
bandwidth stays. Connections are opened without that delay, since every alternative
keeps its connections.
"""

import argparse
import asyncio
import mmap
import struct
from pathlib import Path

CHUNK_BYTES = 256 * 1024
#: chunks on the wire in one direction, so that a slow receiver bounds the memory
WIRE_CHUNKS = 64


class Counter:
    """A number in a file that several processes see.

    :param path: of the file; the writer makes it
    """

    def __init__(self, path: Path, create: bool = False):
        if create:
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        return struct.unpack("<q", self._memory)[0]

    def increment(self):
        self._memory[:] = struct.pack("<q", self.value + 1)


class RequestParser:
    """Finds where requests begin in the bytes that a client sends.

    :param on_request: called for each request
    """

    def __init__(self, on_request):
        self.on_request = on_request
        self._head = b""
        self._body_left = 0

    def feed(self, data: bytes):
        """Look at the next bytes.

        :raises ValueError: for a body whose length is not told
        """
        while data:
            if self._body_left:
                taken = min(self._body_left, len(data))
                self._body_left -= taken
                data = data[taken:]
                continue
            if not self._head:
                self.on_request()
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._body_left = self._length(head)

    def _length(self, head):
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _colon, value = line.partition(b":")
            if name.lower() == b"transfer-encoding":
                raise ValueError("a request in chunks, which are not counted")
            if name.lower() == b"content-length":
                length = int(value)
        return length


async def _pass_on(reader, writer, seconds, look=None):
    """Copy a stream, each chunk some seconds later."""
    loop = asyncio.get_running_loop()
    wire = asyncio.Queue(WIRE_CHUNKS)

    async def arrive():
        while item := await wire.get():
            moment, data = item
            if (wait := moment - loop.time()) > 0:
                await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    try:
        while data := await reader.read(CHUNK_BYTES):
            if look:
                look(data)
            if seconds:
                await wire.put((loop.time() + seconds, data))
            else:
                writer.write(data)
                await writer.drain()
        await wire.put(None)
        await arriving
    except ConnectionError:
        pass  # one side has closed the connection
    finally:
        arriving.cancel()
        writer.close()


async def _serve(target, latencies, counter, ports_file):
    def make_handler(latency):
        async def handle(reader, writer):
            server_reader, server_writer = await asyncio.open_connection(
                *target, limit=CHUNK_BYTES
            )
            await asyncio.gather(
                _pass_on(
                    reader,
                    server_writer,
                    latency / 2,
                    RequestParser(counter.increment).feed,
                ),
                _pass_on(server_reader, writer, latency / 2),
            )

        return handle

    listeners = [
        await asyncio.start_server(
            make_handler(latency), "127.0.0.1", 0, limit=CHUNK_BYTES
        )
        for latency in latencies
    ]
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    temporary = ports_file.with_suffix(".new")
    temporary.write_text(" ".join(map(str, ports)))
    temporary.rename(ports_file)
    await asyncio.gather(*(listener.serve_forever() for listener in listeners))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help="host:port of the S3 server")
    parser.add_argument("counter", type=Path, help="file of the number of requests")
    parser.add_argument("ports", type=Path, help="file that gets the ports")
    parser.add_argument(
        "latency", type=float, nargs="+", help="milliseconds of a port of its own"
    )
    arguments = parser.parse_args()
    host, _colon, port = arguments.target.rpartition(":")
    latencies = [milliseconds / 1000 for milliseconds in arguments.latency]
    counter = Counter(arguments.counter, create=True)
    asyncio.run(_serve((host, int(port)), latencies, counter, arguments.ports))


if __name__ == "__main__":
    main()
