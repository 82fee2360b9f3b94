"""With a registry that has no batches: assigned identifiers and second copies."""

from aind_pipelines.archive.copy import copy
from aind_pipelines.archive.deposit import deposit
from aind_pipelines.archive.fixity import check
from aind_pipelines.archive.layout import init_archive
from aind_pipelines.archive.naming import name_items
from aind_pipelines_tests.registry_process import PLAIN, running_registry


def test_identifiers_are_assigned_and_copies_located_one_by_one(tmp_path):
    paths = [tmp_path / name for name in ("a b", "c d", "a b again")]
    for path in paths:
        path.write_text(path.name[:3])
    with running_registry(tmp_path, program=PLAIN) as running, running.client() as registry:
        live = init_archive(tmp_path / "live", registry)
        second = init_archive(tmp_path / "second", registry)
        named = name_items(live, registry, "registry", paths, "session-raw", {}, keep_source=True)
        results = list(deposit(live, registry, [item for _, item in named if not isinstance(item, str)]))
        assert [result.status for result in results] == ["deposited", "deposited", "already_there"]
        one, two, again = (result.id for result in results)
        assert one == again != two
        assert {copied.status for copied in copy(registry, [one, two], second)} == {"copied"}
        for archive in (live, second):
            assert check(archive, registry).findings == []
            assert {resource.id for resource in registry.iter_archive_resources(archive.path.name)} == {one, two}
