"""What the tests of the archive's commands share: the command in this process, an archive, and files."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from aind_pipelines.cli import main
from aind_pipelines_tests.registry_process import PASSWORD, USER, RegistryProcess

Run = Callable[..., tuple[int, str, str]]


class _Stdin:
    """Standard input that holds these bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.fixture
def run(registry_process: RegistryProcess, monkeypatch, capfdbinary) -> Run:
    """The command; `stdin` are bytes for it. Exit code, standard output and error."""
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    monkeypatch.setenv("NBANK_REGISTRY", registry_process.url)
    monkeypatch.setenv("NBANK_USERNAME", USER)
    monkeypatch.setenv("NBANK_PASSWORD", PASSWORD)

    def call(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        capfdbinary.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr("sys.stdin", _Stdin(stdin))
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        said = capfdbinary.readouterr()
        return int(ended.value.code or 0), said.out.decode(), said.err.decode()

    return call


@pytest.fixture
def mark(request) -> str:
    """Part of identifiers and names: the tests share one registry."""
    return f"m{abs(hash(request.node.name)) % 10**9}"


@pytest.fixture
def live(tmp_path, run, mark) -> Path:
    code, out, err = run("archive", "init", tmp_path / "live", "-n", f"live-{mark}", "-u", "027")
    assert (code, out) == (0, "")
    assert mark in err
    return tmp_path / "live"


@pytest.fixture
def second(tmp_path, run, mark) -> Path:
    assert run("archive", "init", tmp_path / "second", "-n", f"second-{mark}")[0] == 0
    return tmp_path / "second"


@pytest.fixture
def files(tmp_path, mark) -> list[Path]:
    made = [tmp_path / f"{mark}{number}.wav" for number in range(2)]
    for path in made:
        path.write_text(path.name)
    return made


@pytest.fixture
def deposited(live, run, files) -> list[str]:
    """The identifiers of `files`, which stay where they are, in `live`."""
    assert run("archive", "deposit", live, *files, "-d", "session-raw", "--copy")[0] == 0
    return [path.stem for path in files]
