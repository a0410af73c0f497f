"""What the tests and the addons' imports leave alone: networks, variables."""

import ast
import os
import subprocess

import pytest
from toolbox import network, project

#: Imports all modules of an addon but its tests and migrations. Fails when a line of
#: this repository reads a variable, when settings are read, or on a connection.
IMPORT_ALL = """
import os, pkgutil, importlib, sys, traceback
root, addon = sys.argv[1:]

class Environment(type(os.environ)):
    def __getitem__(self, name):
        frames = traceback.extract_stack()[:-1]
        callers = [f for f in frames if not f.filename.startswith("<frozen")]
        callers = [f for f in callers if f.filename not in STANDARD]
        own = os.path.join(root, addon) + os.sep
        if callers and callers[-1].filename.startswith(own):
            raise AssertionError(f"reads {name} in {callers[-1]}")
        return super().__getitem__(name)

    def __iter__(self):
        try:
            self["all variables"]
        except KeyError:
            pass
        return super().__iter__()

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise AssertionError(f"{event}{arguments}")

def refuse_settings(self, *args, **kwargs):
    raise AssertionError(f"reads the settings {type(self).__name__}")

import _collections_abc, pydantic_settings
import odoo.addons
STANDARD = {os.__file__, _collections_abc.__file__}
os.environ.__class__ = Environment
pydantic_settings.BaseSettings.__init__ = refuse_settings
sys.addaudithook(refuse)
odoo.addons.__path__.append(root)
package = importlib.import_module(f"odoo.addons.{addon}")
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not {"tests", "migrations"} & set(module.name.split(".")):
        importlib.import_module(module.name)
loaded = {name.split(".")[2] for name in sys.modules if name.count(".") > 1
          and name.startswith("odoo.addons.")}
print("loaded", *loaded)
"""


def depends_on(addon):
    """Return the addons of this repository that an addon depends on, at any depth."""
    manifest = (project.ROOT / addon / "__manifest__.py").read_text()
    found = set(ast.literal_eval(manifest)["depends"]) & set(project.addons())
    return found.union(*map(depends_on, found))


@pytest.mark.parametrize("addon", project.addons())
def test_import_in_an_empty_environment(addon):
    result = subprocess.run(
        [project.PYTHON, "-c", IMPORT_ALL, project.ROOT, addon],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
    )
    print(result.stdout, result.stderr)
    assert result.returncode == 0
    loaded = set(result.stdout.rpartition("loaded ")[2].split())
    assert addon in loaded
    # also by a relative import, or by a name that is put together
    allowed = depends_on(addon) | {addon}
    if "server_environment" in loaded:  # OCA's addon imports it when it is there
        allowed.add("server_environment_files")
    assert loaded & set(project.addons()) <= allowed


def test_nothing_but_loopback_can_be_reached(fast):
    if fast:
        pytest.skip("services that are kept need the machine's own loopback")
    if not network.permitted():
        pytest.skip(f"user {os.geteuid()} may not make a network of its own")
    assert not network.can_leave_the_machine(), "run the tests by scripts/test"
