"""What is put into an inbox is deposited once it is ready, or moved aside with the reason; nothing is ever lost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from aind_pipelines.archive import fsops
from aind_pipelines.archive.errors import ArchiveError
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.inbox import REJECTED, InboxDeposits, deposit_inbox, look, reject
from aind_pipelines.archive.layout import Archive
from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.registry import RegistryClient
from aind_pipelines.settings import InboxPolicy
from aind_pipelines.tables.schema import archive_copies, archive_findings
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.registry_process import RegistryProcess, die, in_child


class Inbox:
    """An inbox of its own, beside an archive of its own."""

    def __init__(self, engine: Engine, archive: Archive, registry: RegistryClient, path: Path) -> None:
        path.mkdir()
        self.engine, self.archive, self.registry, self.path = engine, archive, registry, path
        self.policy = InboxPolicy(path=path, archive="live", dtype="session-raw", quiet_seconds=0)

    def put(self, name: str, content: bytes) -> Path:
        (self.path / name).write_bytes(content)
        return self.path / name

    def run(self, registry: RegistryClient | None = None) -> InboxDeposits:
        return deposit_inbox(self.engine, "files", self.policy, self.archive, registry or self.registry, run_id="here")

    def rejected(self) -> dict[str, bytes]:
        """What lies aside, by name, without the reasons."""
        folder = self.path / REJECTED
        names = [path for path in folder.iterdir() if not path.name.endswith(".reason.txt")] if folder.is_dir() else []
        return {path.name: path.read_bytes() if path.is_file() else b"" for path in names}

    def reason(self, name: str) -> str:
        return (self.path / REJECTED / f"{name}.reason.txt").read_text()

    def findings(self) -> list[tuple[str, str]]:
        table = archive_findings.c
        with self.engine.connect() as connection:
            rows = connection.execute(select(table.code, table.key).where(table.resolved_at.is_(None)))
            return sorted((row.code, row.key) for row in rows)


@pytest.fixture
def inbox(engine: Engine, archive: Archive, registry: RegistryClient, tmp_path: Path) -> Inbox:
    return Inbox(engine, archive, registry, tmp_path / "inbox")


def ready(policy: InboxPolicy, now: float | None = None) -> dict[str, bool]:
    return {found.path.name: found.ready for found in look(policy, now=now)}


def test_a_file_is_ready_once_nothing_of_it_changed_for_so_long(inbox: Inbox) -> None:
    path = inbox.put("a.wav", b"a")
    inbox.put(".a.wav.XyZ", b"half")
    (inbox.path / REJECTED).mkdir()
    (inbox.path / "d" / "e").mkdir(parents=True)
    (inbox.path / "d" / "e" / "f").write_bytes(b"f")
    os.utime(path, (1, 1))  # as a copying program sets it
    policy = inbox.policy.model_copy(update={"quiet_seconds": 60})
    now = time.time()
    assert ready(policy, now) == {"a.wav": False, "d": False}
    assert ready(policy, now + 30) == {"a.wav": False, "d": False}
    assert ready(policy, now + 61) == {"a.wav": True, "d": True}


def test_a_change_deep_in_a_directory_begins_the_wait_anew(inbox: Inbox) -> None:
    (inbox.path / "d" / "e").mkdir(parents=True)
    deep = inbox.path / "d" / "e" / "f"
    deep.write_bytes(b"f")
    policy = inbox.policy.model_copy(update={"quiet_seconds": 0.2})
    time.sleep(0.25)
    assert ready(policy) == {"d": True}
    deep.write_bytes(b"g")
    assert ready(policy) == {"d": False}


def test_with_a_marker_nothing_else_makes_it_ready_and_the_marker_goes_with_it(inbox: Inbox, unique: str) -> None:
    inbox.policy = inbox.policy.model_copy(update={"ready_marker": ".ready"})
    inbox.put(f"{unique}a.wav", f"{unique}a".encode())
    inbox.put(f"{unique}b.wav", f"{unique}b".encode())
    inbox.put(f"{unique}b.wav.ready", b"")
    inbox.put(f"bad {unique}.wav", b"bad")
    inbox.put(f"bad {unique}.wav.ready", b"")
    assert ready(inbox.policy) == {f"{unique}a.wav": False, f"{unique}b.wav": True, f"bad {unique}.wav": True}
    done = inbox.run()
    assert (done.deposited, done.rejected, done.waiting) == (1, 1, 1)
    assert sorted(path.name for path in inbox.path.iterdir()) == [REJECTED, f"{unique}a.wav"]
    inbox.put(f"{unique}a.wav.ready", b"")
    assert inbox.run().deposited == 1


def test_what_is_ready_is_moved_registered_and_in_the_ledger(inbox: Inbox, unique: str) -> None:
    inbox.policy = inbox.policy.model_copy(update={"metadata": {"rig": "B3"}})
    inbox.put(f"{unique}.wav", unique.encode())
    (inbox.path / f"{unique}d").mkdir()
    (inbox.path / f"{unique}d" / "x").write_bytes(f"{unique}x".encode())
    done = inbox.run()
    assert (done.deposited, done.rejected, done.waiting, done.bytes) == (2, 0, 0, len(unique) * 2 + 1)
    assert list(inbox.path.iterdir()) == []
    resource = inbox.registry.get_resource(unique)
    assert resource is not None
    assert resource.metadata == {"rig": "B3", "inbox": "files"}
    with inbox.engine.connect() as connection:
        kept = {row.id: row for row in connection.execute(select(archive_copies))}
    assert set(kept) == {unique, f"{unique}d"}
    assert kept[unique].sha1 == resource.sha1
    assert kept[unique].run_id == "here"
    assert check(inbox.archive, inbox.registry).findings == []
    again = inbox.run()
    assert (again.deposited, again.rejected, again.waiting) == (0, 0, 0)


@pytest.mark.parametrize("kind", [None, "uuid"])
def test_identifiers_are_assigned_where_the_archives_policy_says_so(inbox: Inbox, unique: str, kind: str) -> None:
    policy = inbox.archive.config.policy
    policy.auto_identifiers, policy.auto_id_type = True, kind
    inbox.put("any name will do.wav", unique.encode())
    done = inbox.run()
    assert (done.deposited, done.rejected, done.waiting) == (1, 0, 0)
    (resource,) = inbox.registry.iter_archive_resources(inbox.archive.name_in(inbox.registry))
    assert len(resource.id) == (36 if kind == "uuid" else 8)
    assert check(inbox.archive, inbox.registry).findings == []


def test_directories_are_deposited_as_one_zip_each_where_the_policy_says_so(inbox: Inbox, unique: str) -> None:
    inbox.policy = inbox.policy.model_copy(update={"zip_directories": True})
    for _ in range(2):
        (inbox.path / f"{unique}d").mkdir()
        (inbox.path / f"{unique}d" / "x").write_bytes(unique.encode())
        done = inbox.run()
    assert (done.deposited, done.rejected) == (0, 1)
    assert "the same content" in inbox.reason(f"{unique}d")
    (path,) = inbox.archive.entries(f"{unique}d")
    assert path.name == f"{unique}d.zip"
    assert check(inbox.archive, inbox.registry).findings == []


def test_what_is_refused_lies_aside_with_its_reason_and_is_a_finding_until_it_is_taken_away(
    inbox: Inbox, unique: str
) -> None:
    inbox.put("no good name.wav", b"n")
    (inbox.path / f"{unique}link").symlink_to("/etc/passwd")
    (inbox.path / f"{unique}empty").mkdir()
    os.mkfifo(inbox.path / f"{unique}pipe")
    done = inbox.run()
    assert (done.deposited, done.rejected) == (0, 4)
    assert set(inbox.rejected()) == {"no good name.wav", f"{unique}link", f"{unique}empty", f"{unique}pipe"}
    assert "gives no identifier" in inbox.reason("no good name.wav")
    assert "holds no files" in inbox.reason(f"{unique}empty")
    assert done.findings == {"inbox_rejected": 4}
    assert ("inbox_rejected", "files/no good name.wav") in inbox.findings()
    (inbox.path / REJECTED / "no good name.wav").unlink()
    assert inbox.run().findings == {"inbox_rejected": 3}
    assert ("inbox_rejected", "files/no good name.wav") not in inbox.findings()


@pytest.mark.parametrize(("content", "said"), [("same", "the same content"), ("other", "another content")])
def test_a_second_one_of_a_name_is_compared_and_kept(inbox: Inbox, unique: str, content: str, said: str) -> None:
    inbox.put(f"{unique}.wav", b"same" + unique.encode())
    inbox.run()
    inbox.put(f"{unique}.wav", content.encode() + unique.encode())
    done = inbox.run()
    assert (done.deposited, done.rejected) == (0, 1)
    assert inbox.rejected() == {f"{unique}.wav": content.encode() + unique.encode()}
    assert said in inbox.reason(f"{unique}.wav")


def test_the_same_content_under_another_name_is_refused_naming_the_first(inbox: Inbox, unique: str) -> None:
    inbox.put(f"{unique}.wav", unique.encode())
    inbox.run()
    inbox.put(f"{unique}copy.wav", unique.encode())
    assert inbox.run().rejected == 1
    assert unique in inbox.reason(f"{unique}copy.wav").split("\n\n")[1]


def test_an_inbox_that_is_not_there_is_no_empty_one(inbox: Inbox) -> None:
    inbox.path.rmdir()
    with pytest.raises(ArchiveError, match="cannot be listed: No such file or directory"):
        list(look(inbox.policy))
    with pytest.raises(ArchiveError, match="cannot be listed"):
        inbox.run()


def test_an_unknown_data_type_stops_before_anything_is_touched(inbox: Inbox, unique: str) -> None:
    path = inbox.put(f"{unique}.wav", b"x")
    inbox.policy = inbox.policy.model_copy(update={"dtype": "song"})
    with pytest.raises(ServiceError, match=r"'song' is not registered \(registered: .*session-raw"):
        inbox.run()
    assert path.read_bytes() == b"x"


def test_a_registry_that_is_down_leaves_everything_where_it_was_or_recoverable(
    inbox: Inbox, registry_process: RegistryProcess, unique: str
) -> None:
    inbox.put(f"{unique}.wav", unique.encode())
    with RegistryClient("http://127.0.0.1:9/neurobank/", ("u", "p"), pause=0.01) as dead, pytest.raises(ServiceError):
        inbox.run(dead)
    assert inbox.rejected() == {}
    assert inbox.run().deposited == 1


@pytest.mark.slow
def test_killed_at_any_step_nothing_is_lost(inbox: Inbox, registry_process: RegistryProcess, unique: str) -> None:
    step, code = 0, -9
    while code != 0:
        step += 3
        content = f"{unique}-{step}".encode()
        inbox.put(f"{unique}s{step}.wav", content)
        inbox.put(f"bad name {step}", content)

        def killed(step: int = step) -> None:
            left = step

            def hook(_operation: str, _path: Path) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    die()

            inbox.engine.dispose(close=False)
            with registry_process.client() as own, fsops.fault_hook(hook):
                inbox.run(own)

        code = in_child(killed)
        inbox.run()
        assert inbox.registry.get_resource(f"{unique}s{step}") is not None
        assert content in inbox.rejected().values()
        assert [path.name for path in inbox.path.iterdir()] == [REJECTED]
        assert check(inbox.archive, inbox.registry).findings == []
    assert step > 30


def test_rejecting_never_replaces(inbox: Inbox) -> None:
    for number in range(3):
        reject(inbox.path, inbox.put("x", b"%d" % number), f"reason {number}")
    assert inbox.rejected() == {"x": b"0", "x.1": b"1", "x.2": b"2"}
    assert [f"reason {number}" in inbox.reason(name) for number, name in enumerate(("x", "x.1", "x.2"))] == [True] * 3
    assert reject(inbox.path, inbox.path / "gone", "reason") is None
    assert not (inbox.path / REJECTED / "gone.reason.txt").exists()


_names = st.one_of(
    st.text(min_size=1, max_size=40),
    st.binary(min_size=1, max_size=255).map(os.fsdecode),
    st.integers(240, 255).map(lambda length: "n" * length),
).filter(lambda name: "/" not in name and "\0" not in name and name not in (".", "..", REJECTED))


@given(st.sets(_names, min_size=1, max_size=4))
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_is_called_it_is_deposited_set_aside_or_left(inbox: Inbox, names: set[str]) -> None:
    """Every file put in is found again: in the archive, aside, or where it was because of its leading dot."""
    try:
        put = {}
        for number, name in enumerate(names):
            content = os.urandom(8) + bytes([number])
            try:
                inbox.put(name, content)
            except (OSError, UnicodeError):
                continue  # not a name on this file system
            put[name] = content
        done = inbox.run()
        left = {path.name for path in inbox.path.iterdir() if path.name != REJECTED}
        assert left == {name for name in put if name.startswith(".")}
        assert done.deposited + done.rejected + len(left) == len(put)
        aside = set(inbox.rejected().values())
        assert len(aside) == done.rejected
        assert aside <= set(put.values())
        assert done.findings.total() == done.rejected
    finally:
        fsops.rmtree(inbox.path)
        inbox.path.mkdir()


def test_a_resource_whose_bytes_were_lost_is_restored_and_told_as_such(inbox: Inbox, unique: str) -> None:
    inbox.put(f"{unique}.wav", unique.encode())
    inbox.run()
    (lost,) = inbox.archive.entries(unique)
    lost.unlink()
    inbox.put(f"{unique}.wav", unique.encode())
    done = inbox.run()
    assert (done.deposited, done.restored, done.rejected, done.bytes) == (0, 1, 0, len(unique))
    assert done.findings == {"bytes_lost": 1}
    assert lost.read_bytes() == unique.encode()
    assert not (inbox.path / f"{unique}.wav").exists()
    assert inbox.run().findings == {}
