"""A directory as one canonical zip: the same bytes everywhere, readable by anyone, as safe to deposit as a file."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_pipelines.archive import fsops, zipped
from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.digests import name_problem
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.intake import LocalDirectory, SourceRefused, read_digests
from aind_pipelines.archive.recovery import recover
from aind_pipelines.archive.zipped import Zipped, zip_size, zip_stream
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.registry_process import RegistryProcess, die, in_child

_NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8
).filter(lambda name: name_problem(name) is None)
_TREES = st.dictionaries(
    st.lists(_NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), min_size=1, max_size=6
)


def make(root: Path, tree: dict[str, bytes]) -> LocalDirectory | None:
    """The files of `tree`; None where one of its names is a file and a folder at once, or none of this file system."""
    for name, content in tree.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            return None
    return LocalDirectory(root)


def by_the_standard_library(root: Path) -> bytes:
    """The zip that is described in words, written by Python's zipfile."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix()):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, path.read_bytes())
    return written.getvalue()


@given(_TREES)
@settings(max_examples=examples(40))
def test_any_tree_gives_the_zip_that_the_standard_library_writes_and_reads(tree: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if (directory := make(root, tree)) is None:
            return
        listing = directory.scan()
        made = b"".join(zip_stream(listing))
        assert made == by_the_standard_library(root)
        assert len(made) == zip_size(listing) == Zipped(directory).scan().size


@given(_TREES, st.integers(1, 60), st.integers(0, 4))
@settings(max_examples=examples(40))
def test_what_needs_zip64_is_readable_by_the_standard_library(
    tree: dict[str, bytes], most: int, most_members: int
) -> None:
    """With the limits of the old format as low as that, every kind of ZIP64 record comes up."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        if (directory := make(root, tree)) is None:
            return
        patch.setattr(zipped, "_LARGE", most)
        patch.setattr(zipped, "_MANY", most_members)
        listing = directory.scan()
        made = b"".join(zip_stream(listing))
        assert len(made) == zip_size(listing)
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            assert archive.testzip() is None
            read = {name: archive.read(name) for name in archive.namelist()}
        assert read == {member.relpath: (root / member.relpath).read_bytes() for member in listing.members}


def test_it_is_the_zip_of_neurobank(tmp_path: Path) -> None:
    """The digest was taken of what neurobank 0.13.0 made of this directory."""
    directory = make(
        tmp_path / "d", {"a.txt": b"first\n", "sub/b.bin": b"second\n", "sub/zero": b"", "ünï.txt": b"x\n"}
    )
    assert directory is not None
    made = b"".join(zip_stream(directory.scan()))
    assert hashlib.sha1(made).hexdigest() == "052c639d641187551fcb9d39868ae7dfec5aa796"


def test_a_folder_that_holds_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").write_bytes(b"f")
    made = b"".join(zip_stream(LocalDirectory(tmp_path).scan()))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["empty/", "full"]
        assert archive.getinfo("empty/").is_dir()


def test_a_member_that_changes_between_its_two_readings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1" * 10)
    status = path.stat()
    stream = zip_stream(LocalDirectory(tmp_path).scan())
    next(stream)
    path.write_bytes(b"2" * 10)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(SourceRefused, match="changed while it was read"):
        list(stream)


def test_it_is_read_in_pieces_of_any_size(tmp_path: Path) -> None:
    directory = make(tmp_path, {"a": bytes(range(256)) * 20, "b": b"b"})
    assert directory is not None
    whole = b"".join(zip_stream(directory.scan()))
    (member,) = Zipped(directory).scan().members
    for size in (1, 7, 4096, 1 << 20):
        with member.open() as reader:
            assert b"".join(iter(lambda reader=reader, size=size: reader.read(size), b"")) == whole


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False], ids=["copy", "move"])
def test_killed_at_any_step_its_deposit_converges(
    tmp_path: Path, archive, registry, registry_process: RegistryProcess, unique: str, keep: bool
) -> None:
    step, code = 0, -9
    while code != 0:
        step += 2
        id_ = f"{unique}z{step}"
        directory = make(tmp_path / id_, {"a": id_.encode(), "sub/b": b"b"})
        assert directory is not None
        expected = b"".join(zip_stream(directory.scan()))

        def killed(step: int = step, id_: str = id_, directory: LocalDirectory = directory) -> None:
            left = step

            def hook(_operation: str, _path: Path) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    die()

            item = DepositItem(id_, Zipped(directory), "session-raw", keep_source=keep)
            with registry_process.client() as own, fsops.fault_hook(hook):
                list(deposit(archive, own, [item]))

        code = in_child(killed)
        recover(archive, registry)
        if registry.get_resource(id_) is None:
            assert read_digests(directory).files == 2
            item = DepositItem(id_, Zipped(directory), "session-raw", keep_source=keep)
            assert [result.status for result in deposit(archive, registry, [item])] == ["deposited"]
        (path,) = archive.entries(id_)
        assert path.name == f"{id_}.zip"
        assert path.read_bytes() == expected
        assert keep is directory.path.exists()
        assert check(archive, registry).findings == []
    assert step > 10
