"""The commands of the guides do what the guides say, on a real database."""

import re
import shutil
import subprocess

import pytest
from toolbox import odoo_command, odoo_server, processes, project

GUIDES = project.ROOT / "docs" / "guides"
#: the guides' commands are those of an installation
PRELUDE = f"""
odoo() {{ '{project.PYTHON}' '{project.ODOO}' "$@"; }}
anthem() {{ '{project.PYTHON}' '{project.VENV}/bin/anthem' "$@"; }}
"""
DATABASES = ("mydb", "mydb_integration", "mydb_check")


class Guide:
    """Runs the commands of a guide, one by one, in a folder with ``odoo.conf``."""

    def __init__(self, services, folder, name):
        self.services = services
        self.folder = folder
        self.variables = {}
        text = (GUIDES / f"{name}.md").read_text()
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S)
        lines = [
            line.partition(" #")[0].strip() for b in blocks for line in b.splitlines()
        ]
        #: commands that are still to be run
        self.left = [line for line in lines if " " in line and "…" not in line]

    def run(self, command: str, status: int = 0) -> str:
        """Run the guide's next command, which has to be this one.

        :return: its standard output
        """
        assert self.left.pop(0) == command
        # the hosts of the guide's databases are those of the services
        command = re.sub(r" -h [a-z-]+", "", command)
        result = subprocess.run(
            ["bash", "-euc", PRELUDE + command],
            cwd=self.folder,
            env=self.services.process_env(
                ODOO_RC=str(self.folder / "odoo.conf"), **self.variables
            ),
            capture_output=True,
            text=True,
            preexec_fn=processes.die_with_parent(),
        )
        assert result.returncode == status, (command, result.stdout, result.stderr)
        return result.stdout

    def shell(self, code: str) -> None:
        result = odoo_server.run_odoo(
            self.services,
            self.folder,
            *("shell", "-d", "mydb", "--no-http"),
            stdin=f"{code}\nenv.cr.commit()\nprint('it is done')\n",
        )
        assert "it is done" in result.stdout, result.stdout


@pytest.fixture
def guide(services, odoo_folder, make_database):
    """Return a function that opens a guide; ``mydb`` is an Odoo without our addons."""
    for database in DATABASES:
        odoo_server.drop_database(services, database)
    make_database("mydb", "base")
    odoo_command.write_configuration(odoo_folder)
    yield lambda name: Guide(services, odoo_folder, name)
    for database in DATABASES:
        odoo_server.drop_database(services, database)
        shutil.rmtree(odoo_folder / "data" / "filestore" / database, ignore_errors=True)


PLATFORM = "odoo server -d mydb -i cloud_platform_generic --stop-after-init --no-http"
SONG = "anthem odoo.addons.cloud_platform.songs::install_generic -c odoo.conf -d mydb"
DUMP = "pg_dump -Fc -d mydb -f mydb.dump"
STORE = """
env["ir.attachment"].create({"name": "a", "raw": b"a" * 100_000})
"""


def test_move_copy_and_restore(guide):
    move = guide("move-to-s3")
    move.shell(STORE)
    move.run(DUMP)
    move.run(PLATFORM)
    assert "from files:" in move.run("odoo s3migrate -d mydb --to s3 --dry-run")
    song = move.run(SONG)
    assert re.search(r"done, (\d+) of \1 moved, 0 failed", song)
    assert "0 moved" in move.run("odoo s3migrate -d mydb")
    assert "nothing: all are there" in move.run("odoo s3migrate -d mydb --dry-run")
    assert " 0 references without their object" in move.run("odoo s3inventory -d mydb")
    assert "all is well" in move.run("odoo cloudcheck -d mydb")

    copy = guide("copy-for-integration")
    copy.run("pg_dump -Fc -h prod-db -d mydb -f mydb.dump")
    copy.run("createdb -h integration-db mydb_integration")
    restore = "pg_restore --no-owner -h integration-db -d mydb_integration mydb.dump"
    copy.run(restore)
    copy.variables = {
        name: value.replace("acme", "demo")
        for name, value in variables_of("copy-for-integration").items()
        if not name.endswith(("_HOST", "_ID", "_KEY", "_PASSWORD"))
    }
    assert copy.variables["AWS_ATTACHMENT_READONLY"] == "1"
    copy.run("odoo neutralize -d mydb_integration")
    assert "read-only)" in copy.run("odoo cloudcheck -d mydb_integration")
    copy.run(f"{SONG}_integration")
    said = copy.run("odoo s3migrate -d mydb_integration --to db")
    assert re.search(r"done, [1-9]\d* moved to db", said)
    assert copy.left == []

    move.shell('env["ir.attachment"].search([("name", "=", "a")]).unlink()')
    old = guide("restore-a-dump")
    old.run("dropdb mydb")
    old.run("createdb mydb")
    old.run("pg_restore --no-owner -d mydb mydb.dump")
    assert " 0 references without their object" in old.run("odoo s3inventory -d mydb")
    old.run("odoo s3inventory -d mydb --fix")
    old.run("createdb mydb_check")
    old.run("pg_restore --no-owner -d mydb_check mydb.dump")
    old.run("AWS_ATTACHMENT_READONLY=1 odoo s3inventory -d mydb_check")
    assert old.left == []

    move.shell(
        'env["ir.config_parameter"].set_param("ir_attachment.location", "db")\n'
        'env["ir.config_parameter"].set_param("cloud.platform.kind", False)'
    )
    assert "moved to db" in move.run("odoo s3migrate -d mydb --to db")
    assert move.left == []


def variables_of(name: str) -> dict[str, str]:
    """Return the variables that a guide sets."""
    text = (GUIDES / f"{name}.md").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(\S+)", text, re.M))
