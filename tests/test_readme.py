"""What the README and the pages beside it say is so."""

import re

from toolbox import pages, project

README = (project.ROOT / "README.md").read_text()


def test_every_addon_is_listed():
    for addon in project.addons():
        assert f"| [`{addon}`](docs/addons/{addon}.md) |" in README


def test_every_script_is_told():
    told = README + (project.ROOT / "CONTRIBUTING.md").read_text()
    scripts = {p.name for p in (project.ROOT / "scripts").iterdir() if p.suffix == ""}
    told = set(re.findall(r"scripts/(\w+)", told))
    assert scripts - {"toolbox", "__pycache__"} <= told


def test_every_guide_is_listed():
    for path in (project.ROOT / "docs").rglob("*.md"):
        if path.parent != pages.PAGES:
            assert f"({path.relative_to(project.ROOT)}" in README


def test_example_environment_is_complete_and_known():
    text = (project.ROOT / "docs" / "install.md").read_text()
    block = re.search(r"```sh\n\s+RUNNING_ENV=.*?```", text, re.S)[0]
    told = set(re.findall(r"^\s+([A-Z][A-Z0-9_]+)=", block, re.M))
    known = {
        str(field.validation_alias)
        for addon in project.addons()
        for cls in pages.settings_classes(addon)
        for field in cls.model_fields.values()
    }
    assert len(told) > 10
    assert told <= known
