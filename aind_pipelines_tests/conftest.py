"""What every test shares: nothing of the caller's environment reaches it, and slow tests run last."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from aind_pipelines_tests.counts import SOAK

# How long an example takes to make says something of the machine and what else it does, nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_PASSED_ON = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM", "CI", "PYTEST_VERSION"}
_PREFIXES = (
    "DOCDB_CONTRACT_URI",
    "AIND_PIPELINES_RECORDS",
    "AIND_PIPELINES_SOAK",
    "AIND_PIPELINES_SCHEMA_PYTHON",
    "NEUROBANK_CONTRACT",
    "PYTEST_",
)


def _isolate() -> None:
    """Keep an allow-list of the environment, and give the tests an empty home directory of their own."""
    for name in list(os.environ):
        if name not in _PASSED_ON | {"PYTHONPATH"} and not name.startswith(_PREFIXES):
            del os.environ[name]
    if "PYTHONPATH" in os.environ:  # where the package is not installed, it is found through this alone
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    home = tempfile.mkdtemp(prefix="aind-tests-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        HOME=home,
        AWS_CONFIG_FILE=str(Path(home) / "aws-config"),
        AWS_SHARED_CREDENTIALS_FILE=str(Path(home) / "aws-credentials"),
        AWS_EC2_METADATA_DISABLED="true",
        AIND_PIPELINES_NO_DOTENV="1",
    )
    schema_peer = Path(__file__).parents[1] / ".peers" / "aind-data-schema" / "bin" / "python"
    if schema_peer.exists():
        os.environ.setdefault("AIND_PIPELINES_SCHEMA_PYTHON", str(schema_peer))


_isolate()

# Servers that several rooms need start once, with the first test that asks for them.
pytest_plugins = (
    "aind_pipelines_tests.postgres",
    "aind_pipelines_tests.docdb",
    "aind_pipelines_tests.moto",
    "aind_pipelines_tests.registry_process",
    "aind_pipelines_tests.house",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settle hypothesis' seed before it does, so that it can be told and a run be repeated."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = random.SystemRandom().randrange(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    """Tell the seed of the randomised tests."""
    seed = config.option.hypothesis_seed
    return f"randomised tests: seed {seed} (again with --hypothesis-seed={seed}), {'long' if SOAK else 'short'} counts"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then whole journeys: a file of those that began last would keep the other workers waiting."""

    def turn(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("slow") is not None, "end_to_end" not in item.path.parts

    items.sort(key=turn)


@pytest.fixture(scope="session")
def real_records() -> Path:
    """The folder of real DocDB records beside the checkout; skips visibly where there is none."""
    folder = Path(
        os.environ.get("AIND_PIPELINES_RECORDS") or Path(__file__).parents[2] / "shared" / "data" / "docdb_records"
    )
    if not folder.is_dir():
        pytest.skip("no real records beside this checkout")
    return folder
