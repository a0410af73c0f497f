"""The documentation is up to date: pages, links, commands, options, variables."""

import ast
import functools
import importlib
import re
import shutil
import subprocess

import pytest
from toolbox import odoo_command, pages, project

FILES = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=project.ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
TEXTS = {
    name: (project.ROOT / name).read_text()
    for name in FILES
    if (project.ROOT / name).exists()
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
#: of others than these addons and Odoo
FOREIGN_VARIABLES = {"ODOO_HOME", "SERVER_ENV_CONFIG_SECRET"}

every_file = pytest.mark.parametrize("name", sorted(TEXTS))


def code_of(text: str) -> list[str]:
    """Return the lines of code blocks, and inline code."""
    lines = [line for block in FENCE.findall(text) for line in block[2].splitlines()]
    rest = FENCE.sub("", text)
    lines += re.findall(r"^ {4,}(.*)$", rest, re.M)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^ {4,}.*$", "", rest, flags=re.M))
    return lines + [span.replace("\n", " ") for span in spans]


def slug(heading: str) -> str:
    """Return the anchor that a heading gets, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {slug(heading) for heading in headings}


@pytest.mark.parametrize("addon", project.addons())
def test_page_of_an_addon_is_up_to_date(addon):
    path = pages.page_path(addon)
    assert path.exists() and path.read_text() == pages.page(addon), (
        "run `python -m toolbox.pages` in scripts/"
    )


def test_no_page_is_left_of_an_addon_that_is_gone():
    assert {path.stem for path in pages.PAGES.glob("*.md")} == set(project.addons())


@every_file
def test_links_lead_somewhere(name):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", TEXTS[name]))
    folder = (project.ROOT / name).parent
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _hash, anchor = target.partition("#")
        file = (folder / path).resolve() if path else project.ROOT / name
        inside = file.exists() and file.is_relative_to(project.ROOT)
        if not inside or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert broken == []


@every_file
def test_paths_of_the_repository_exist(name):
    code = "\n".join(code_of(TEXTS[name]))
    folders = "benchmarks|deploy|docs|scripts|tests"
    paths = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./*-]*\w)", code)
    assert [path for path in paths if not list(project.ROOT.glob(path))] == []


@functools.lru_cache
def help_of(command: str) -> str:
    """Return the help of a command of Odoo, or an empty text when there is none."""
    result = subprocess.run(
        [
            *(project.PYTHON, project.ODOO),
            f"--addons-path={odoo_command.addons_path()}",
            *(command, "--help"),
        ],
        cwd=project.ROOT / "docs",
        capture_output=True,
        text=True,
    )
    return result.stdout if result.returncode == 0 else ""


#: at the beginning of a command, after variables of its own
COMMAND = re.compile(r"\s*(?:[A-Z_]+=\S*\s+)*(?:scripts/)?odoo +(\w+|-.*)(.*)")


@every_file
def test_commands_and_options_exist(name):
    wrong = []
    lines = [line.partition(" #")[0] for line in code_of(TEXTS[name])]
    for command in (part for line in lines for part in re.split(r"[|;&]+", line)):
        found = COMMAND.fullmatch(command)
        if not found:
            continue
        name_of_command, arguments = found.groups()
        if name_of_command == "gevent":  # Odoo's own, not one of its commands
            continue
        if name_of_command.startswith("-"):
            name_of_command, arguments = "server", name_of_command
        text = help_of(name_of_command)
        options = re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", arguments)
        known = [option for option in options if re.search(rf"{option}\b", text)]
        if not text or options != known:
            wrong.append(command)
        if name_of_command == "redissessions" and not re.search(
            r"^$| (count|list|revoke \S+|export \S+|import \S+)$", arguments.rstrip()
        ):
            wrong.append(command)
    assert wrong == []


@every_file
def test_songs_exist(name):
    # the guide on providers has an addon of its own (see test_guides.py)
    ours = r"(odoo\.addons\.(?!cloud_platform_acme\b)\w+\.songs)::(\w+)"
    for module, song in re.findall(ours, TEXTS[name]):
        assert callable(getattr(importlib.import_module(module), song))


@functools.lru_cache
def variables() -> frozenset[str]:
    """Return the environment variables of the addons and of Odoo."""
    from odoo.tools import config

    settings = [c for addon in project.addons() for c in pages.settings_classes(addon)]
    fields = [field for cls in settings for field in cls.model_fields.values()]
    options = config.options_index.values()
    return frozenset(
        FOREIGN_VARIABLES
        | {str(field.validation_alias) for field in fields}
        | {option.env_name for option in options if getattr(option, "env_name", None)}
    )


@every_file
def test_variables_exist(name):
    prefixes = "AWS|ODOO|STATSD|RUNNING|DISABLE|SERVER_ENV"
    named = set(re.findall(rf"(?<![\w/])(?:{prefixes})_[A-Z0-9_]+", TEXTS[name]))
    # `ODOO_SESSION_REDIS_…` stands for those that begin so
    families = {begin for begin in named if begin.endswith("_")}
    unknown = named - families - variables()
    unknown |= {f for f in families if not any(v.startswith(f) for v in variables())}
    assert unknown == set()


@every_file
def test_python_examples_can_be_parsed(name):
    for _indent, language, code in FENCE.findall(TEXTS[name]):
        if language == "python":
            indent = re.match(" *", code)[0]
            ast.parse(re.sub(rf"^{indent}", "", code, flags=re.M))


def fragments() -> list:
    return sorted(project.ROOT.glob("*/readme/newsfragments/*.*"))


def test_change_log_takes_every_fragment(tmp_path):
    for path in [
        *(project.ROOT / "pyproject.toml", project.ROOT / "CHANGELOG.md"),
        *(project.ROOT / "scripts" / "changelog.md.jinja", *fragments()),
    ]:
        copy = tmp_path / path.relative_to(project.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    command = [project.PYTHON, "-m", "towncrier", "build"]
    command += ["--version", "19.0.9.9.9", "--date", "2026-11-30"]
    draft = subprocess.run(
        [*command, "--draft"], cwd=tmp_path, capture_output=True, text=True
    )
    assert draft.returncode == 0, draft.stderr
    for git in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *git], cwd=tmp_path, check=True)
    subprocess.run([*command, "--yes"], cwd=tmp_path, check=True, capture_output=True)
    assert not list(tmp_path.glob("*/readme/newsfragments/*"))
    log = (tmp_path / "CHANGELOG.md").read_text()
    assert "\n## 19.0.9.9.9 (2026-11-30)\n" in log
    for text in (draft.stdout, log):
        plain = re.sub(r"\s+", " ", text)
        for path in fragments():
            assert re.sub(r"\s+", " ", path.read_text()).strip() in plain, path
        for addon in project.addons():
            if any(path.parts[-4] == addon for path in fragments()):
                assert f"\n### {addon}\n" in text
