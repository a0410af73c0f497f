"""Real services and databases for the system tests."""

import hashlib
import shutil
from pathlib import Path

import pytest
import redis
from toolbox import odoo_server, processes, programs, project
from toolbox.services import Services


def pytest_addoption(parser):
    parser.addoption(
        "--fast",
        action="store_true",
        help="keep the services and the databases between the runs",
    )
    parser.addoption(
        "--s3",
        choices=("ministack", "rclone"),
        default="ministack",
        help="S3 server behind the tests",
    )
    parser.addoption(
        "--stress",
        type=int,
        metavar="OPERATIONS",
        help="operations of the stress test of attachments, without a limit of time",
    )
    parser.addoption(
        "--load-seconds",
        type=int,
        default=40,
        metavar="SECONDS",
        help="length of the load on several front ends (test_front_ends.py)",
    )
    parser.addoption(
        "--screenshots",
        type=Path,
        metavar="FOLDER",
        help="where the browser's pictures go (see scripts/screenshots)",
    )


@pytest.fixture(scope="session")
def fast(request):
    return request.config.getoption("--fast")


@pytest.fixture(scope="session")
def run_folder(request, fast):
    """Folder for all that the tests leave behind; git does not see it."""
    s3 = request.config.getoption("--s3")
    folder = project.RUN / ("fast" if fast else "test") / s3
    if not fast:
        before = Services(folder / "services")
        if before.running:
            pytest.exit(f"another run uses {folder}: wait for its end", 1)
        before.remove()
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def services(request, run_folder, fast):
    """PostgreSQL, Redis and S3; ``services.env`` are the variables that use them."""
    services = Services(run_folder / "services")
    services.start(request.config.getoption("--s3"), follow=not fast)
    yield services
    if not fast:
        services.remove()


@pytest.fixture(scope="session")
def odoo_folder(run_folder):
    """Configuration and data directory of the Odoo runs that are no front ends."""
    return run_folder / "odoo"


@pytest.fixture(scope="session")
def make_database(services, odoo_folder, fast):
    """Return a function that makes a database with some modules installed.

    ``make_database(name, modules)``: ``modules`` are names joined by commas. What a
    name had before is dropped. The first database with the same modules takes the
    time of an installation, the next ones that of a copy.
    """
    templates = {}

    def make(name: str, modules: str = "cloud_platform_exoscale", **variables) -> str:
        template = f"template_{sources_digest(modules)}"
        if template not in templates:
            if not (fast and odoo_server.database_exists(services, template)):
                install(services, odoo_folder, template, modules, **variables)
            templates[template] = modules
        data_dir = odoo_folder / "data"
        odoo_server.copy_database(services, template, name, data_dir)
        return name

    return make


def sources_digest(modules):
    """Digest of what a template is made of: after a change it is made anew."""
    digest = hashlib.sha256(modules.encode())
    for addon in project.addons():
        for path in sorted((project.ROOT / addon).rglob("*")):
            if path.suffix in (".py", ".xml", ".csv", ".sql"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def install(services, folder, database, modules, **variables):
    odoo_server.drop_database(services, database)
    shutil.rmtree(folder / "data" / "filestore" / database, ignore_errors=True)
    arguments = ["server", "-d", database, "-i", modules, "--stop-after-init"]
    result = odoo_server.run_odoo(
        services, folder, *arguments, "--no-http", **variables
    )
    if result.returncode:
        odoo_server.drop_database(services, database)
        pytest.fail(f"installing {modules}: exit {result.returncode}\n{result.stdout}")


class OwnRedis:
    """A Redis that a test may stop, with the users of deploy/redis/users.acl."""

    #: of the two users
    PASSWORD = "of-a-test"
    USERS = project.ROOT / "deploy" / "redis" / "users.acl"

    def __init__(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = processes.free_port()
        self.process = None
        users = folder / "users.acl"
        lines = self.USERS.read_text().splitlines()
        users.write_text(
            "".join(f"{line} on resetpass >{self.PASSWORD}\n" for line in lines)
        )
        self.options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": folder,
            "aclfile": users,
            "appendonly": "yes",
            "appendfsync": "always",
        }

    def start(self):
        options = [f"--{name} {value}" for name, value in self.options.items()]
        command = [programs.require("redis-server"), *" ".join(options).split()]
        log = self.folder / "redis.log"
        self.process = processes.start(command, log)
        processes.wait_until(
            lambda: processes.accepts_connections(self.port),
            "Redis",
            process=self.process,
            log=log,
        )
        return self

    def stop(self):
        processes.stop(self.process)

    def command(self, *arguments):
        """Run a command as a user who may do all, and return its answer."""
        with redis.Redis(port=self.port) as client:
            return client.execute_command(*arguments)

    def env(self, user):
        """Return variables for an Odoo as one of the users."""
        return {
            "ODOO_SESSION_REDIS_PORT": str(self.port),
            "ODOO_SESSION_REDIS_USERNAME": user,
            "ODOO_SESSION_REDIS_PASSWORD": self.PASSWORD,
            "ODOO_SESSION_REDIS_PREFIX": "client-odoo-prod",
        }


@pytest.fixture
def own_redis(run_folder):
    own = OwnRedis(run_folder / "own_redis")
    own.start()
    yield own
    own.stop()


@pytest.fixture
def start_front_end(services, run_folder):
    """Return a function that starts a front end on an empty data directory.

    ``start_front_end(name, database, options, **variables)``; all are stopped at the
    end of the test.
    """
    front_ends = []

    def start(name, database, options=None, **variables):
        folder = run_folder / "front_ends" / name
        shutil.rmtree(folder, ignore_errors=True)
        front_end = odoo_server.OdooServer(
            services, folder, database, options, **variables
        )
        front_ends.append(front_end)
        return front_end.start()

    yield start
    for front_end in front_ends:
        front_end.stop()


CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def page(monkeypatch):
    """A page of a Chromium of its own."""
    from playwright.sync_api import sync_playwright

    # Playwright's driver finds its libraries, also on a machine without them
    monkeypatch.setenv("LD_LIBRARY_PATH", programs.library_path())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=programs.require("chromium"), args=CHROMIUM_ARGUMENTS
        )
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        yield context.new_page()
        browser.close()


@pytest.fixture
def screenshot(request, page, run_folder):
    """Return a function that takes a picture of the page: ``screenshot(name)``."""
    folder = request.config.getoption("--screenshots") or run_folder / "screenshots"
    return lambda name: page.screenshot(path=folder / f"{name}.png", full_page=True)
