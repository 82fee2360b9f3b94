"""What a file system can do is tried, kept, and believed only where it was tried."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.filesystem import Filesystem, filesystem_type, probe, read_record, write_record
from aind_pipelines.archive.layout import Archive

RECORD = "filesystem.json"


def refusing(*operations: str, code: int = errno.ENOTSUP):
    def hook(operation: str, path: Path) -> None:
        if operation in operations:
            raise OSError(code, os.strerror(code), str(path))

    return fsops.fault_hook(hook)


def test_an_archive_is_made_with_its_record(archive):
    known = read_record(archive.journal / RECORD, archive.journal)
    assert known is not None
    assert known == archive.filesystem()
    assert (known.links, known.rename_new, known.fsync_folder, known.locks) == (True, True, True, True)
    assert known.promises == []
    assert known.type == filesystem_type(archive.path)
    assert not (archive.journal / "probe").exists()


@pytest.mark.parametrize(
    ("operations", "field"), [(["link"], "links"), (["rename_new"], "rename_new"), (["syncfs"], "syncfs")]
)
def test_what_is_refused_is_recorded_as_such(archive, operations, field):
    with refusing(*operations):
        found = probe(archive.journal)
    assert not getattr(found, field)
    assert list(archive.journal.glob("probe*")) == []


def test_the_weaker_promise_is_said(archive):
    known = archive.filesystem()
    weak = dataclasses.replace(
        known, links=False, rename_new=False, fsync_folder=False, case_sensitive=False, locks=False
    )
    text = " ".join(weak.promises)
    for word in ("hard links", "power failure", "case", "one process"):
        assert word in text
    assert any("directory" in said for said in dataclasses.replace(known, rename_new=False).promises)


@pytest.mark.parametrize("change", [{"system": "another machine"}, {"device": 1}])
def test_a_record_of_elsewhere_is_not_believed(archive, change):
    record = archive.journal / RECORD
    write_record(record, dataclasses.replace(archive.filesystem(), links=False, **change), 0o664)
    assert read_record(record, archive.journal) is None
    again = Archive.open(archive.path)
    assert again.filesystem().links
    assert json.loads(record.read_text())["links"] is True


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"links": true}'])
def test_a_record_that_says_nothing_is_tried_again(archive, text):
    (archive.journal / RECORD).write_text(text)
    assert isinstance(Archive.open(archive.path).filesystem(), Filesystem)


def test_a_disk_that_fails_while_it_is_tried_is_an_error(archive):
    with refusing("link", code=errno.EIO), pytest.raises(OSError, match="Input/output"):
        probe(archive.journal)
    assert list(archive.journal.glob("probe*")) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_claimed_name_is_never_taken_from_another(tmp_path, kind):
    source, target = tmp_path / "source", tmp_path / "target"
    for path in (source, target):
        if kind == "file":
            path.write_text(path.name)
        else:
            path.mkdir()
            (path / "x").write_text(path.name)
    with pytest.raises(FileExistsError):
        fsops.rename_claimed(source, target)
    read = (lambda path: path.read_text()) if kind == "file" else (lambda path: (path / "x").read_text())
    assert (read(source), read(target)) == ("source", "target")


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("lacking", [("rename_new",), ("rename_new", "link")])
def test_a_name_that_is_taken_is_refused_in_every_way(tmp_path, kind, lacking):
    source, target = tmp_path / "source", tmp_path / "target"
    if kind == "file":
        source.write_text("new")
    else:
        source.mkdir()
        (source / "x").write_text("new")
    target.write_text("old")
    with refusing(*lacking), pytest.raises(FileExistsError):
        fsops.move_new(source, target)
    assert target.read_text() == "old"
    target.unlink()
    with refusing(*lacking):
        fsops.move_new(source, target)
    assert not source.exists()
    assert (target if kind == "file" else target / "x").read_text() == "new"


def test_a_claim_does_not_outlive_the_move_that_failed(tmp_path: Path) -> None:
    for folder in (False, True):
        source, target = tmp_path / f"source{folder}", tmp_path / f"target{folder}"
        if folder:
            source.mkdir()
            (source / "a").write_bytes(b"a")
        else:
            source.write_bytes(b"a")

        def full(operation: str, path: Path) -> None:
            if operation == "rename_claimed":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        with fsops.fault_hook(full), pytest.raises(OSError, match="No space left"):
            fsops.rename_claimed(source, target)
        assert not os.path.lexists(target)
        assert source.exists()
        fsops.rename_claimed(source, target)
        fsops.drop_claim(target, folder=folder)
        assert target.exists()
