import json
import signal
import socket

from odoo.tests import BaseCase, get_db_name, tagged

from .common import OdooProcess


@tagged("post_install", "-at_install")
class TestServer(BaseCase):
    def serve(self, *arguments, **env):
        return OdooProcess(
            "cloudserver",
            "-d",
            get_db_name(),
            "--db-filter=^" + get_db_name() + "$",
            "--load=base,web,logging_json",
            *arguments,
            **{"ODOO_LOGGING_JSON": "1", **env},
        )

    def drive(self, server):
        """Send some requests, and return the X-Request-ID of each answer by name."""
        server.wait_for("Modules loaded")
        answers = {
            "login": server.get(
                "/web/login?access_token=s3cret&redirect=%2Fa%3Ftoken%3Ds3cret",
                headers={"X-Request-ID": "from-the-proxy", "User-Agent": "test/1"},
            ),
            "static": server.get("/web/static/img/logo.png"),
            "missing": server.get("/nothing/here"),
            "error": server.get(
                "/web/dataset/call_kw/res.users/read",
                method="POST",
                json={
                    "params": {"model": "x", "method": "y", "args": [], "kwargs": {}}
                },
            ),
        }
        self.assertEqual(answers["login"].status_code, 200)
        self.assertEqual(answers["missing"].status_code, 404)
        self.assertIn("error", answers["error"].json())
        self.assertEqual(answers["login"].headers["X-Request-ID"], "from-the-proxy")
        identifiers = {
            name: answer.headers["X-Request-ID"] for name, answer in answers.items()
        }
        for identifier in identifiers.values():
            server.wait_for(f'"request_id":"{identifier}"')
        return identifiers

    def check_lines(self, server, identifiers):
        records, plain = server.records()
        self.assertLessEqual(len(plain), 2, "\n".join(plain))
        self.assertGreater(len(records), 20)
        self.assertNotIn("s3cret", json.dumps(records))
        access = {}
        for record in records:
            if "duration_ms" in record:
                self.assertNotIn(record["request_id"], access, "logged twice")
                access[record["request_id"]] = record
        self.assertEqual(set(access), set(identifiers.values()), "\n".join(plain))
        access = {name: access[value] for name, value in identifiers.items()}
        self.assertEqual(access["login"]["route"], "/web/login")
        self.assertEqual(access["login"]["user_agent"], "test/1")
        self.assertEqual(access["login"]["dbname"], get_db_name())
        self.assertGreater(access["login"]["query_count"], 0)
        self.assertGreater(access["login"]["response_bytes"], 1000)
        self.assertEqual(access["static"]["status"], 200)
        self.assertEqual(access["missing"]["status"], 404)
        self.assertEqual(access["error"]["status"], 200)
        self.assertIs(access["error"]["rpc_error"], True)
        self.assertIs(access["login"]["rpc_error"], False)
        return records

    def test_threaded_server_writes_json_from_start_to_stop(self):
        with self.serve("--max-cron-threads=0") as server:
            identifiers = self.drive(server)
        records = self.check_lines(server, identifiers)
        self.assertTrue(any(r["logger"] == "py.warnings" for r in records))

    def test_prefork_server_writes_json_from_start_to_stop(self):
        with self.serve("--workers=2", "--max-cron-threads=1") as server:
            identifiers = self.drive(server)
            server.wait_for("Evented Service (longpolling) running")
            answer = server.get("/websocket/health", port=server.gevent_port)
            self.assertEqual(answer.status_code, 200)
            identifiers["gevent"] = answer.headers["X-Request-ID"]
            server.wait_for(f'"request_id":"{identifiers["gevent"]}"')
        records = self.check_lines(server, identifiers)
        self.assertGreater(len({record["pid"] for record in records}), 2)

    def test_malformed_request_is_a_record_too(self):
        with self.serve("--max-cron-threads=0") as server:
            server.wait_for("Modules loaded")
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(b"nonsense\r\n\r\n")
                sock.recv(1000)
            server.wait_for("nonsense")
        _records, plain = server.records()
        self.assertLessEqual(len(plain), 2, "\n".join(plain))

    def test_client_that_goes_before_it_has_read_the_answer_has_a_record(self):
        with self.serve("--max-cron-threads=0") as server:
            server.wait_for("Modules loaded")
            for turn in range(5):
                path = f"/web/login?turn={turn}"
                address = ("127.0.0.1", server.port)
                with socket.create_connection(address) as client:
                    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    client.recv(1)
                    # the rest is not read, so the connection is reset
                server.wait_for(f'"path":"{path}"')

    def test_uncaught_exceptions_are_records(self):
        with self.serve(TEST_UNCAUGHT="1") as server:
            server.process.wait(60)
        records, plain = server.records()
        self.assertLessEqual(len(plain), 2, "\n".join(plain))
        crashes = [r for r in records if r["message"].startswith("Uncaught")]
        self.assertEqual(
            [r["exception_type"] for r in crashes],
            ["ZeroDivisionError", "RuntimeError"],
        )

    def test_uncaught_exceptions_of_greenlets_are_records(self):
        with self.serve(TEST_UNCAUGHT="1", TEST_EVENTED="1") as server:
            server.process.wait(60)
        records, plain = server.records()
        self.assertLessEqual(len(plain), 2, "\n".join(plain))
        crashes = [r for r in records if r["message"].startswith("Uncaught")]
        self.assertEqual(
            [r["exception_type"] for r in crashes],
            ["ZeroDivisionError", "RuntimeError"],
        )
        self.assertIn("Greenlet", crashes[0]["message"])

    def test_ecs_names_are_used_when_asked(self):
        with self.serve("--stop-after-init", ODOO_LOGGING_JSON_FORMAT="ecs") as server:
            server.process.wait(120)
        records, plain = server.records()
        self.assertLessEqual(len(plain), 2, "\n".join(plain))
        for record in records:
            self.assertIn("@timestamp", record)
            self.assertIn("log.level", record)

    def test_off_changes_nothing(self):
        with self.serve("--max-cron-threads=0", ODOO_LOGGING_JSON="0") as server:
            server.wait_for("Modules loaded")
            answer = server.get("/web/login")
            self.assertNotIn("X-Request-ID", answer.headers)
            server.wait_for('"GET /web/login HTTP/1.1" 200')
        records, plain = server.records()
        self.assertFalse(records)
        self.assertRegex(plain[-1], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ \d+ INFO ")
        self.assertEqual(server.process.returncode, 0)

    def test_dump_of_stacks_is_a_record(self):
        with self.serve("--max-cron-threads=0") as server:
            server.wait_for("Modules loaded")
            server.process.send_signal(signal.SIGQUIT)
            server.wait_for("MainThread")
        _records, plain = server.records()
        self.assertLessEqual(len(plain), 2, "\n".join(plain))
