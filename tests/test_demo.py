"""The demo is the main job on real parts: it must pass as it is."""

import os
import subprocess

import psutil
from toolbox import demo, project

STEPS = 13


def test_demo_passes_and_leaves_no_process():
    result = subprocess.run(
        [project.ROOT / "scripts" / "demo", "--once"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(result.stdout)
    assert result.returncode == 0
    assert result.stdout.count("✓") == STEPS
    assert "✗" not in result.stdout
    folder = str(project.RUN / "demo")
    left = [
        process
        for process in psutil.process_iter(["pid", "cmdline"])
        if folder in " ".join(process.info["cmdline"] or [])
        and process.info["pid"] != os.getpid()
    ]
    assert not left


def test_failed_step_ends_with_exit_1(monkeypatch, capsys):
    def fail(self):
        """A step that fails"""
        raise demo.CheckFailed("as it must")

    monkeypatch.setattr(demo.Demo, "start_services", fail)
    assert demo.run(once=True) == 1
    assert "✗ A step that fails: as it must" in capsys.readouterr().out
