"""Making, opening and validating archives."""

import json
import stat
from pathlib import Path

import pytest

from aind_pipelines.archive import fsops
from aind_pipelines.archive.errors import ArchiveError, ArchiveWriteFailed, NotAnArchive
from aind_pipelines.archive.layout import Archive, ArchiveConfig, entry_name, init_archive
from aind_pipelines.clients.registry import RegistryRefused
from aind_pipelines_tests.registry_process import die, in_child


def test_a_new_archive_has_neurobanks_layout_and_is_registered(tmp_path, registry, unique):
    archive = init_archive(tmp_path / "new", registry, unique, 0o027)
    assert registry.get_archive(unique).root == str(archive.path)
    assert {entry.name for entry in archive.path.iterdir()} == {
        "nbank.json", "README.md", ".gitignore", "resources", "staging", ".journal",
    }  # fmt: skip
    config = json.loads((archive.path / "nbank.json").read_text())
    assert config["registry"] == registry.url
    assert config["policy"]["access"]["umask"] == 0o027
    assert config["policy"]["allow_directories"] is True
    assert stat.S_IMODE(archive.resources.stat().st_mode) == 0o2750
    assert stat.S_IMODE((archive.path / "nbank.json").stat().st_mode) == 0o640
    assert not list(tmp_path.glob(".*.partial"))


def test_an_existing_target_is_refused_and_left_alone(tmp_path, registry, unique):
    (tmp_path / "there").mkdir()
    with pytest.raises(ArchiveError, match="already exists"):
        init_archive(tmp_path / "there", registry, unique)
    assert not list((tmp_path / "there").iterdir())
    assert registry.get_archive(unique) is None


def test_a_name_that_the_registry_has_is_refused_before_anything_is_made(tmp_path, registry, archive):
    with pytest.raises(ArchiveError, match="already has an archive"):
        init_archive(tmp_path / "second", registry, archive.name_in(registry))
    assert not (tmp_path / "second").exists()


def test_a_name_that_the_registry_does_not_accept_leaves_nothing(tmp_path, registry):
    with pytest.raises(RegistryRefused, match="letters, numbers"):
        init_archive(tmp_path / "bad", registry, "no good")
    assert not list(tmp_path.iterdir())


def test_a_killed_init_is_finished_by_the_same_call(tmp_path, registry_process, unique):
    def steps() -> int:
        count = 0

        def hook(_operation: str, _path: Path) -> None:
            nonlocal count
            count += 1

        with fsops.fault_hook(hook), registry_process.client() as registry:
            init_archive(tmp_path / "counted", registry, f"{unique}counted")
        return count

    for number in range(1, steps() + 1):
        name = f"{unique}k{number}"

        def killed(number=number, name=name) -> None:
            left = number

            def hook(_operation: str, _path: Path) -> None:
                nonlocal left
                left -= 1
                if not left:
                    die()

            with fsops.fault_hook(hook), registry_process.client() as registry:
                init_archive(tmp_path / name, registry, name)

        assert in_child(killed) == -9
        with registry_process.client() as registry:
            if registry.get_archive(name) is not None:
                assert Archive.open(tmp_path / name)
                if not (tmp_path / name / ".journal" / "init.json").exists():
                    continue
            assert init_archive(tmp_path / name, registry, name).name_in(registry) == name


@pytest.mark.parametrize("operation", ["mkdir", "open_excl", "fsync", "rename_new"])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, registry, unique, operation):
    def hook(done: str, path: Path) -> None:
        if done == operation:
            raise OSError(28, "No space left on device", str(path))

    with fsops.fault_hook(hook), pytest.raises(ArchiveWriteFailed, match="No space left"):
        init_archive(tmp_path / "full", registry, unique)
    assert not list(tmp_path.iterdir())
    assert registry.get_archive(unique) is None


def test_an_absent_marker_is_not_an_archive(archive):
    (archive.path / "nbank.json").unlink()
    with pytest.raises(NotAnArchive, match="mounted"):
        Archive.open(archive.path)


@pytest.mark.parametrize(("umask", "bits"), [(2, 0o002), ("027", 0o027), ("0077", 0o077)])
def test_a_umask_is_an_integer_or_octal_text(umask, bits):
    config = ArchiveConfig.model_validate({"registry": "http://h/", "policy": {"access": {"umask": umask}}})
    assert config.policy.access.umask == bits


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"registry": 3}', '{"registry": "r", "policy": {"access": {"umask": "9"}}}']
)
def test_an_unusable_configuration_names_the_file(archive, text):
    (archive.path / "nbank.json").write_text(text)
    with pytest.raises(NotAnArchive, match=r"nbank\.json"):
        Archive.open(archive.path)


def test_unknown_keys_of_a_configuration_are_kept():
    config = ArchiveConfig.model_validate({"registry": "http://h", "lab": {"room": 3}, "policy": {"new": 1}})
    written = json.loads(config.to_json())
    assert written["lab"] == {"room": 3}
    assert written["policy"]["new"] == 1
    assert written["registry"] == "http://h/"


def test_only_the_last_suffix_is_kept_and_only_if_wanted():
    assert entry_name("x", "a.tar.gz", keep_extensions=True) == "x.gz"
    for name, suffix in (("a", ""), (".hidden", ""), ("a.", ""), ("a..b", ".b"), ("..b", ".b"), ("a. b", ". b")):
        assert entry_name("x", name, keep_extensions=True) == f"x{suffix}"
    assert entry_name("x", "a.wav", keep_extensions=False) == "x"


def test_only_fsops_changes_files():
    """Every way of changing a file is in one module, where faults can be injected."""
    import ast

    import aind_pipelines.archive

    changing = {
        "mkdir", "rename", "replace", "unlink", "rmdir", "rmtree", "write", "write_text", "write_bytes", "chmod",
        "fchmod", "chown", "link", "symlink", "symlink_to", "hardlink_to", "truncate", "ftruncate", "touch", "move",
        "copy", "copyfile", "makedirs", "remove",
    }  # fmt: skip
    found = []
    for file in Path(aind_pipelines.archive.__file__).parent.glob("*.py"):
        if file.name == "fsops.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in changing:
                owner = ast.unparse(node.func.value)
                if owner not in ("fsops", "source"):
                    found.append(f"{file.name}: {owner}.{node.func.attr}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
                found.append(f"{file.name}: open")
    assert found == []
