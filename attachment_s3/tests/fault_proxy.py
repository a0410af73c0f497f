"""A proxy between the addon and the S3 server that fails as it is told."""

import contextlib
import socket
import ssl
import struct
import threading
import time

ERROR = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>as told</Message></Error>"""


class FaultProxy:
    """Context manager; listens on a free port of the loopback.

    :param target: host and port of the S3 server
    """

    def __init__(self, target: tuple[str, int]):
        self.target = target
        self.requests = 0
        self._fault, self._times = None, 0
        self._sockets = set()
        self._lock = threading.Lock()

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception):
        self.refuse()

    # what a test says

    def work(self):
        """Pass everything on."""
        self._set(None, 0)

    def fail(self, fault, times=10**9):
        """Apply a fault to the next requests, then work.

        :param fault: a method of this class whose name begins with ``do_``, bound to
            its arguments with ``functools.partial`` when it has some; it returns
            true when the connection can be used again
        """
        self._set(fault, times)

    def refuse(self):
        """Do not listen any more."""
        with contextlib.suppress(OSError):  # it is closed already
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._listener.close()
        self._close_connections()

    def _set(self, fault, times):
        self._fault, self._times, self.requests = fault, times, 0
        self._close_connections()

    # faults: each handles one request

    def do_reset(self, client, _request):
        """Break the connection."""
        linger = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()

    def do_nothing(self, client, _request):
        """Never answer."""
        while client.recv(65536):
            pass

    def do_answer(self, status, code, client, request):
        """Answer with an error."""
        self._read_body(client, request)
        body = ERROR.format(code=code).encode()
        head = f"HTTP/1.1 {status} As Told\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/xml\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + (b"" if request.startswith(b"HEAD") else body))
        client.close()

    def do_truncate(self, length, client, request):
        """Break off after some bytes of the body."""
        head, body = self._ask(client, request)
        client.sendall(head + body[:length])
        client.close()

    def do_corrupt(self, client, request):
        """Change one bit of the body."""
        head, body = self._ask(client, request)
        client.sendall(head + body[:-1] + bytes([body[-1] ^ 1]))
        client.close()

    def do_stall(self, length, client, request):
        """Send some bytes of the body, then nothing."""
        head, body = self._ask(client, request)
        client.sendall(head + body[:length])
        self.do_nothing(client, request)

    def do_delay(self, seconds, client, request):
        """Pass the request on after some time."""
        time.sleep(seconds)
        return self._pass_on(client, request)

    def do_gather(self, barrier, client, request):
        """Pass the request on when as many as the barrier wants have come.

        :param barrier: a ``threading.Barrier`` with a timeout, after which the
            connections of all who wait are closed
        """
        try:
            barrier.wait()
        except threading.BrokenBarrierError:
            return False
        return self._pass_on(client, request)

    def do_garbage(self, client, _request):
        """Answer something that is not HTTP (nor TLS)."""
        with contextlib.suppress(ssl.SSLError):
            client.sendall(b"not at all\r\n\r\n")
        client.close()

    # the proxy

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                self._sockets.add(client)
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), client:
            while request := self._read_head(client):
                with self._lock:
                    self.requests += 1
                    fault = self._fault if self._times > 0 else None
                    self._times -= 1
                if fault:
                    if not fault(client, request):
                        return
                    continue
                self._pass_on(client, request)
        self._sockets.discard(client)

    def _pass_on(self, client, request):
        head, body = self._ask(client, request)
        client.sendall(head + body)
        return True  # the connection can be used again

    def _read_head(self, source):
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = source.recv(65536)
            if not chunk:
                return data
            data += chunk
        return data

    def _length(self, head):
        for line in head.split(b"\r\n"):
            name, _colon, value = line.partition(b":")
            if name.lower() == b"content-length":
                return int(value)
        return 0

    def _read_body(self, source, data):
        head, _end, body = data.partition(b"\r\n\r\n")
        while len(body) < self._length(head):
            chunk = source.recv(65536)
            if not chunk:
                break
            body += chunk
        return body

    def _ask(self, client, request):
        """Pass a request on and return the head and the body of the answer."""
        body = self._read_body(client, request)
        head = request.partition(b"\r\n\r\n")[0]
        with socket.create_connection(self.target) as server:
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = b""
            while chunk := server.recv(65536):
                answer += chunk
        head, _end, body = answer.partition(b"\r\n\r\n")
        lines = [
            line
            for line in head.split(b"\r\n")
            if not line.lower().startswith(b"connection:")
        ]
        return b"\r\n".join([*lines, b"", b""]), body

    def _close_connections(self):
        for connection in tuple(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()
