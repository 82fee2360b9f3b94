"""``aind-pipelines registry``: a database of its own, and users."""

import subprocess
import sys

from aind_pipelines_tests.registry_process import PASSWORD, registry_environment


def test_the_registry_command_migrates_and_makes_users(tmp_path):
    environment = registry_environment(tmp_path / "r.sqlite")
    command = [sys.executable, "-m", "aind_pipelines.cli", "registry"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    early = call("create-user", "anna")
    assert early.returncode == 1
    assert "Migrate" in early.stderr
    assert call("migrate").returncode == 0
    done = call("create-user", "anna")
    assert (done.returncode, done.stdout) == (0, "")
    assert "made the user anna" in done.stderr
    assert PASSWORD not in done.stderr
