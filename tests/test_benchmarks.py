"""The proxy of the benchmarks counts what passes and changes nothing."""

import http.client
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from latency_proxy import Counter, RequestParser
from toolbox import processes, project


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def echo_port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(tmp_path, echo_port):
    """Ports without and with latency, and the counter."""
    counter, ports = tmp_path / "counter", tmp_path / "ports"
    command = [sys.executable, project.ROOT / "benchmarks" / "latency_proxy.py"]
    command += [f"127.0.0.1:{echo_port}", counter, ports, "0", "20"]
    process = processes.start(command, tmp_path / "log")
    processes.wait_until(ports.exists, "the proxy", process=process)
    yield [int(port) for port in ports.read_text().split()], Counter(counter)
    processes.stop(process)


def test_requests_are_passed_on_and_counted(proxy):
    ports, counter = proxy
    for port in ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for size in (0, 1, 3_000_000):
            content = secrets.token_bytes(size)
            before = counter.value
            connection.request("PUT", "/", body=content)
            assert connection.getresponse().read() == content
            assert counter.value == before + 1
        connection.close()


def test_request_is_found_however_it_is_cut():
    found = []
    parser = RequestParser(lambda: found.append(1))
    request = b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\r\n\r\n."
    stream = (request + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") * 3
    for start in range(0, len(stream), 7):
        parser.feed(stream[start : start + 7])
    assert len(found) == 6


def test_body_of_untold_length_is_refused():
    with pytest.raises(ValueError, match="chunks"):
        RequestParser(lambda: None).feed(
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
