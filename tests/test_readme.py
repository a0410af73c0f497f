"""What the README says is so."""

import re

from toolbox import project, variables

README = (project.ROOT / "README.md").read_text()


def test_table_of_variables_is_up_to_date():
    assert variables.updated_readme() == README, (
        "run `python -m toolbox.variables` in scripts/"
    )


def test_every_addon_is_listed():
    for addon in project.addons():
        assert f"| `{addon}` |" in README


def test_every_script_of_the_readme_exists_and_every_script_is_told():
    told = set(re.findall(r"scripts/(\w+)", README))
    scripts = {p.name for p in (project.ROOT / "scripts").iterdir() if p.suffix == ""}
    assert told == scripts - {"toolbox", "__pycache__"}


def test_example_environment_passes_the_settings(monkeypatch):
    block = re.search(r"```sh\n\s+RUNNING_ENV=.*?```", README, re.S)[0]
    known = set(re.findall(r"\| `([A-Z][A-Z0-9_]+)` \|", README)) | {"RUNNING_ENV"}
    told = set(re.findall(r"^\s+([A-Z][A-Z0-9_]+)=", block, re.M))
    assert told <= known
