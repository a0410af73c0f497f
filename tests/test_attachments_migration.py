"""Moves of attachments in real processes: killed, refused, during an upgrade."""

import json
import os
import re
import shutil
from contextlib import closing

import boto3
import pytest
from toolbox import odoo_command, odoo_server, processes, project

WIDE = ",".join([*project.SERVER_WIDE_MODULES, "attachment_s3"])
#: all are in the bucket, small ones too
TO_S3 = """
set_param = env["ir.config_parameter"].set_param
set_param("ir_attachment.location", "s3://")
set_param("ir_attachment.storage.force.database", "{}")
"""
MAKE = """
import os
set_param = env["ir.config_parameter"].set_param
set_param("ir_attachment.storage.force.database", "{}")
for location in ("file", "db"):
    set_param("ir_attachment.location", location)
    contents = [os.urandom(2000) for _ in range(250)]
    contents += contents[:50]  # two attachments of one content
    env["ir.attachment"].create(
        [{"name": f"{location} {n}", "raw": raw} for n, raw in enumerate(contents)]
    )
env.cr.commit()
"""
#: what all contents read as, and where they are
LOOK = """
import hashlib, json
rows = env["ir.attachment"].search_fetch(
    [("type", "=", "binary"), ("id", "!=", False), ("file_size", ">", 0)]
)
wrong = [
    row.id for row in rows
    if hashlib.sha1(row.raw or b"").hexdigest() != row.checksum
]
places = {"s3": 0, "db": 0, "file": 0}
for row in rows:
    in_s3 = (row.store_fname or "").startswith("s3://")
    places["s3" if in_s3 else "file" if row.store_fname else "db"] += 1
status = env["attachment.s3.migration"]._current().status
print("LOOK", json.dumps({**places, "wrong": wrong, "status": status}))
"""
COLLECT = """
env["ir.attachment"]._gc_file_store()
env["attachment.s3.garbage"]._collect()
"""


class Database:
    """A database, and Odoo processes that use it on a disk of their own."""

    def __init__(self, services, folder, name):
        self.services, self.folder, self.name = services, folder, name

    def on_disk(self, name):
        """The same database, seen by a machine with an empty disk."""
        return Database(self.services, self.folder.with_name(name), self.name)

    def query(self, sql, *parameters):
        return odoo_server.query(self.services, self.name, sql, *parameters)

    def odoo(self, command, *arguments, stdin="", status=0, **variables):
        result = odoo_server.run_odoo(
            self.services,
            self.folder,
            *(command, "-d", self.name, *arguments),
            stdin=stdin,
            **variables,
        )
        print(result.stdout)
        assert result.returncode == status
        return result.stdout

    def shell(self, code, **variables):
        return self.odoo("shell", "--no-http", stdin=code, **variables)

    def look(self, before="", **variables):
        output = self.shell(before + LOOK, **variables)
        return json.loads(re.search("LOOK (.*)", output)[1])

    def set_location(self, location):
        self.query(
            "UPDATE ir_config_parameter SET value = %s "
            "WHERE key = 'ir_attachment.location'",
            location,
        )

    def upgrade(self, *arguments, **variables):
        return self.odoo(
            *("server", "-u", "base", "--stop-after-init", "--no-http", *arguments),
            **variables,
        )

    def files(self):
        """What it has on its disk, without the list of Odoo's collector."""
        root = self.folder / "data" / "filestore" / self.name
        return [
            path
            for path in root.rglob("*")
            if path.is_file() and "checklist" not in path.relative_to(root).parts
        ]

    def places(self):
        """Number of contents in the bucket, in the database and in local files."""
        rows = self.query(
            """SELECT count(*) FILTER (WHERE store_fname LIKE 's3://%%'),
                      count(*) FILTER (WHERE store_fname IS NULL),
                      count(*) FILTER (WHERE store_fname NOT LIKE 's3://%%')
                 FROM ir_attachment WHERE type = 'binary' AND file_size > 0"""
        )
        return dict(zip(("s3", "db", "file"), rows[0], strict=True))

    def migrate_and_kill_in_the_middle(self, refused_meanwhile=False):
        """Kill a move that has moved a batch, while it moves the next one.

        :param refused_meanwhile: try to start a second one before
        """
        with closing(odoo_server.connect(self.services, self.name)) as blocker:
            blocker.autocommit = False
            with blocker.cursor() as cr:
                # a row that an OFFSET skips would be locked too
                cr.execute(
                    """SELECT id FROM ir_attachment WHERE id = (
                           SELECT id FROM ir_attachment
                            WHERE type = 'binary' AND file_size > 0
                            ORDER BY id LIMIT 1 OFFSET 300)
                       FOR UPDATE"""
                )
            configuration = odoo_command.write_configuration(self.folder)
            process = processes.start(
                [project.PYTHON, project.ODOO, "s3migrate", "-d", self.name],
                self.folder / "killed.log",
                env=self.services.process_env(ODOO_RC=str(configuration)),
            )
            processes.wait_until(
                lambda: self.query(
                    """SELECT 1 FROM attachment_s3_migration run, pg_stat_activity
                        WHERE run.state = 'running'
                          AND 0 < moved AND moved < total
                          AND wait_event_type = 'Lock'
                          AND query LIKE 'UPDATE ir_attachment%%'"""
                ),
                "the middle of the move",
                300,
                process=process,
                log=self.folder / "killed.log",
            )
            if refused_meanwhile:
                output = self.odoo("s3migrate", status=1)
                assert "moved already" in output
            process.kill()
            process.wait()

    def migrate(self, status=0):
        output = self.odoo("s3migrate", "--json", status=status)
        return json.loads(output[output.rindex("\n{\n") :])


@pytest.fixture
def make(services, run_folder, make_database, odoo_folder):
    def make(name, modules="attachment_s3", **variables):
        make_database(name, modules, **variables)
        return Database(services, odoo_folder, name)

    return make


def test_killed_move_loses_nothing_in_both_directions(make):
    database = make("test_killed_move")
    database.shell(MAKE)
    number = sum(database.places().values())
    assert number >= 600

    database.set_location("s3://")
    database.migrate_and_kill_in_the_middle(refused_meanwhile=True)
    seen = database.look()
    assert seen["status"] == "interrupted"
    assert not seen["wrong"]
    assert seen["s3"] >= 200 and seen["file"] + seen["db"] >= 200

    report = database.migrate()
    assert (report["state"], report["failed"]) == ("done", 0)
    assert report["moved"] == number - seen["s3"]
    states = database.query("SELECT state FROM attachment_s3_migration ORDER BY id")
    assert states == [("interrupted",), ("done",)]
    seen = database.look(COLLECT)
    assert seen == {"s3": number, "db": 0, "file": 0, "wrong": [], "status": "done"}
    assert not database.files()

    database.set_location("file")
    machine = database.on_disk("killed_move_back")
    shutil.rmtree(machine.folder, ignore_errors=True)
    machine.migrate_and_kill_in_the_middle()
    seen = machine.look()
    assert seen["status"] == "interrupted"
    assert not seen["wrong"]
    assert seen["file"] >= 200 and seen["s3"] >= 200
    assert machine.migrate()["state"] == "done"
    # nothing is deleted from the bucket until it is the location again
    database.set_location("s3://")
    seen = machine.look(COLLECT, AWS_ATTACHMENT_RETENTION_DAYS="0")
    assert seen == {"s3": 0, "db": 0, "file": number, "wrong": [], "status": "done"}
    [(prefix,)] = database.query("SELECT prefix FROM attachment_s3_prefix")
    assert not objects(database.services, prefix)


def objects(services, prefix):
    env = services.env
    client = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    answer = client.list_objects_v2(Bucket=env["AWS_BUCKETNAME"], Prefix=f"{prefix}/")
    return answer.get("Contents", [])


def test_command_tells_what_it_would_do_and_what_is_missing(make):
    database = make("test_migrate_command")
    database.query(
        "INSERT INTO ir_config_parameter (key, value) "
        "VALUES ('ir_attachment.location', 's3://'), "
        "('ir_attachment.storage.force.database', '{}')"
    )
    [(id_, name, fname)] = database.query(
        """SELECT id, name, store_fname FROM ir_attachment
            WHERE store_fname IS NOT NULL ORDER BY id LIMIT 1"""
    )
    (database.folder / "data" / "filestore" / database.name / fname).unlink()
    before = database.places()

    output = database.odoo("s3migrate", "--dry-run")
    assert re.search(
        rf"from files: +{before['file']} .* MB, \d+ missing on this machine", output
    )
    assert not database.query("SELECT 1 FROM attachment_s3_migration")
    output = database.odoo("s3migrate", "--to", "db", status=2)
    assert "set the system parameter ir_attachment.location to db first" in output
    closed = f"http://127.0.0.1:{processes.free_port()}"
    output = database.odoo("s3migrate", status=1, AWS_HOST=closed)
    assert "s3migrate: S3 upload of" in output
    assert database.places() == before

    report = database.migrate(status=1)
    assert report["state"] == "done"
    assert report["failed"] == database.places()["file"] > 0
    assert f"{id_} ({name})" in report["failures"][0]
    assert "No such file" in report["failures"][0]


LOCKED = """
import os
from odoo.exceptions import UserError
env.company.restrictive_audit_trail = True
journal = env["account.journal"].create(
    {"name": "Test", "code": "TST", "type": "general"}
)
account = env["account.account"].create(
    {"name": "Test", "code": "100199", "account_type": "asset_current"}
)
lines = [{"account_id": account.id, side: 1, "name": side} for side in (
    "debit", "credit"
)]
entry = env["account.move"].create(
    {"journal_id": journal.id, "line_ids": [(0, 0, line) for line in lines]}
)
entry.action_post()
locked = env["ir.attachment"].create({
    "name": "locked.pdf",
    "raw": b"%PDF-1.4 " + os.urandom(2000),
    "res_model": entry._name,
    "res_id": entry.id,
})
env.cr.commit()
try:
    locked.raw = b"%PDF-1.4 of somebody else"
except UserError as error:
    print("LOCKED", error)
env.cr.rollback()
"""


def test_attachments_of_locked_accounting_entries_move(make):
    """Once, because the installation of accounting takes its time."""
    database = make("test_locked_entries", "attachment_s3,account")
    output = database.shell(LOCKED)
    assert "LOCKED You cannot remove parts of a restricted audit trail" in output
    for location in ("s3://", "db"):
        database.query(
            "INSERT INTO ir_config_parameter (key, value) "
            "VALUES ('ir_attachment.location', %s) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            location,
        )
        assert database.migrate()["failed"] == 0
        [(in_s3,)] = database.query(
            """SELECT store_fname LIKE 's3://%%' FROM ir_attachment
                WHERE name = 'locked.pdf'"""
        )
        assert bool(in_s3) == (location == "s3://")
    assert not database.look()["wrong"]


@pytest.fixture
def in_s3(make, services):
    """A database with demo data, all of which is in the bucket."""

    def make_in_s3(name):
        database = make(name, "attachment_s3,base", ODOO_WITH_DEMO="1")
        # another folder: machines keep nothing
        database.shell(TO_S3 + 'env["ir.attachment"].force_storage()\n' + COLLECT)
        assert not database.files()
        assert database.places()["s3"] > 100
        return database

    return make_in_s3


CONTENTS = """SELECT id, res_model, res_field, res_id, checksum, file_size
                FROM ir_attachment WHERE type = 'binary' ORDER BY id"""
LOGOS = "SELECT id, md5(logo_web), uses_default_logo FROM res_company ORDER BY id"


def test_upgrade_leaves_no_file_and_computes_from_contents_in_s3(in_s3):
    database = in_s3("test_upgrade")
    contents, logos = database.query(CONTENTS), database.query(LOGOS)
    assert logos[0][1]
    # as an upgrade to another version of Odoo finds new stored fields
    database.query("ALTER TABLE res_company DROP COLUMN logo_web")

    machine = database.on_disk(f"upgrade_{os.urandom(3).hex()}")
    output = machine.upgrade("--load", WIDE)
    assert machine.places() == {"s3": len(contents), "db": 0, "file": 0}
    assert not machine.files()
    assert machine.query(CONTENTS) == contents
    assert machine.query(LOGOS) == logos
    assert "_read_file reading" not in output
    assert "add attachment_s3 to server_wide_modules" not in output


def test_upgrade_with_the_addon_loaded_late_leaves_no_file(in_s3):
    database = in_s3("test_upgrade_late")
    contents, logos = database.query(CONTENTS), database.query(LOGOS)

    machine = database.on_disk(f"upgrade_{os.urandom(3).hex()}")
    output = machine.upgrade("--load", "base,web")
    assert machine.places() == {"s3": len(contents), "db": 0, "file": 0}
    assert not machine.files()
    assert machine.query(CONTENTS) == contents
    assert machine.query(LOGOS) == logos
    # base read them as empty meanwhile
    assert "_read_file reading" in output
    assert "add attachment_s3 to server_wide_modules" in output
    # a machine with an empty disk
    assert not machine.on_disk(f"other_{os.urandom(3).hex()}").look()["wrong"]
