"""The deposit benchmark: a peer that did not run is no success, and what was not deposited as given is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from aind_pipelines.clients.registry import RegistryClient
from benchmarks import deposit
from benchmarks.deposit import Bench, Run, _compared
from benchmarks.registry import registry


def test_a_peer_that_did_not_run_makes_it_fail() -> None:
    run = Run(1.0, 1.0, 50.0)
    missing = _compared("name", [run], [], 20)[0]
    assert not missing.ok
    assert "make .peers/nbank/.installed" in missing.reason
    assert _compared("name", [run], [Run(1.0, 20.0, 50.0)], 20)[0].ok
    assert not _compared("name", [run], [Run(1.0, 19.0, 50.0)], 20)[0].ok
    assert not _compared("name", [Run(1.0, 1.0, 201.0)], [run], 1)[1].ok


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
def test_what_was_not_deposited_as_given_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    monkeypatch.setattr(deposit, "ROUNDS", 1)
    monkeypatch.setattr(deposit, "PEER", tmp_path / "no-peer")
    with registry(tmp_path, plain=plain) as url:
        with RegistryClient(url) as client:
            assert bool(client.capabilities().features) is not plain
        bench = Bench(tmp_path, url)
        ours, peer = bench.rounds(4)
        assert (len(ours), peer) == (1, [])
        assert ours[0].wall > 0
        stored = next((bench.archives["ours"] / "resources").rglob("*.dat"))
        stored.chmod(0o644)
        stored.write_bytes(b"other")
        with pytest.raises(RuntimeError, match=stored.stem):
            bench.rounds(1)
