"""Verification: the same answer for every way that a file's name and content can be known or not."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.archive.deposit import DepositItem, deposit
from aind_pipelines.archive.intake import local_source
from aind_pipelines.archive.verify import verify
from aind_pipelines_tests.counts import examples


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wanted=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", ".x", ".nii.gz"])), min_size=1, max_size=8
    )
)
def test_the_verdict_follows_from_name_and_content(tmp_path_factory, registry, verified_ids, wanted):
    """Names and contents 0 and 1 are registered, 2 and 3 are not."""
    folder = tmp_path_factory.mktemp("v")
    paths, expected = [], []
    for number, (name, content, suffix) in enumerate(wanted):
        path = folder / str(number) / (verified_ids[name] + suffix)
        path.parent.mkdir()
        path.write_text(verified_ids[content])
        paths.append(path)
        named = name if name < 2 and suffix != ".nii.gz" else None
        known = verified_ids[content] if content < 2 else None
        if named is None:
            expected.append(("renamed" if known else "unknown", known))
        elif named == content:
            expected.append(("ok", None))
        else:
            expected.append(("differs", known))
    found = list(verify(registry, paths))
    assert [(one.outcome, one.same_as) for one in found] == expected
    assert [one.path for one in found] == paths


@pytest.fixture
def verified_ids(tmp_path, archive, registry, unique):
    ids = [f"{unique}-{number}" for number in range(4)]
    items = []
    for id_ in ids[:2]:
        (tmp_path / id_).write_text(id_)
        items.append(DepositItem(id_, local_source(tmp_path / id_), "session-raw"))
    assert {result.status for result in deposit(archive, registry, items)} == {"deposited"}
    return ids


def test_directories_and_links_are_read_and_what_cannot_be_is_said(tmp_path, archive, registry, unique):
    folder = tmp_path / unique
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text(unique)
    list(deposit(archive, registry, [DepositItem(unique, local_source(folder), "session-raw")]))
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    import os

    os.mkfifo(tmp_path / "pipe")
    names = [unique, "link", "loop", "dangling", "pipe"]
    found = list(verify(registry, [tmp_path / name for name in names]))
    assert [one.outcome for one in found] == ["ok", "renamed", "unreadable", "missing", "unreadable"]
    assert found[1].id == unique
    assert all(one.reason for one in found[2:])


def test_a_resource_without_a_sha1_cannot_be_verified(tmp_path, registry_process, registry, unique):
    import requests

    from aind_pipelines_tests.registry_process import PASSWORD, USER

    body = {"name": unique, "dtype": "session-raw"}
    requests.post(registry_process.url + "resources/", json=body, auth=(USER, PASSWORD), timeout=10).raise_for_status()
    path = Path(tmp_path / unique)
    path.write_text(unique)
    [one] = verify(registry, [path])
    assert (one.outcome, one.ok) == ("unverifiable", False)
