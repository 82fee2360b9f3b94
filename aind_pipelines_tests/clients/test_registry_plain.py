"""The client gets the same from django-neurobank alone as from our registry."""

import pytest

from aind_pipelines.clients.registry import Query, Registration, RegistryRefused
from aind_pipelines_tests.registry_process import OURS, PLAIN, running_registry


@pytest.fixture(scope="module", params=[OURS, PLAIN])
def running(request, tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("registry"), program=request.param) as process:
        yield process


@pytest.fixture(scope="module")
def client(running):
    with running.client() as made:
        for name in ("arch", "arch2"):
            made.add_archive(name, f"/d/{name}")
        made.add_archive("tape-1", "T:1", "tape")
        made.add_dtype("session-derived", "x")
        found = made.register_many(
            [
                Registration("Sound-1", "1" * 40, "session-raw", {"site": 1, "tag": "x"}, ("arch",)),
                Registration("sound-2", "2" * 40, "session-raw", {"site": 2, "tag": "3"}, ("arch2",)),
                Registration("spikes_1", f"{'1' * 39}2", "session-derived", {"site": True}, ("arch", "tape-1")),
                Registration("spikes_2", None, "session-derived", {"a__b": 1}),
            ]
        )
        assert not any(isinstance(one, RegistryRefused) for one in found)
        yield made


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Query(name="SOUND"), {"Sound-1", "sound-2"}),
        (Query(dtype="derived"), {"spikes_1", "spikes_2"}),
        (Query(sha1="1" * 40), {"Sound-1"}),
        (Query(sha1="1" * 12), {"Sound-1", "spikes_1"}),
        (Query(archive="arch"), {"Sound-1", "spikes_1"}),
        (Query(scheme="TA"), {"spikes_1"}),
        (Query(metadata={"site": 1}), {"Sound-1"}),
        (Query(metadata={"site": True}), {"spikes_1"}),
        (Query(metadata={"tag": "3"}), {"sound-2"}),
        (Query(metadata={"tag": 3}), set()),
        (Query(metadata={"a__b": 1}), {"spikes_2"}),
        (Query(metadata={"site__range": 3}), set()),
        (Query(name="s", without={"site": 2}), {"Sound-1", "spikes_1", "spikes_2"}),
        (Query(name="sound", archive="arch2"), {"sound-2"}),
        (Query(archive="arc"), set()),
    ],
)
def test_a_search_finds_what_it_says(client, query, names):
    assert {resource.id for resource in client.search(query)} == names


def test_a_search_needs_a_filter():
    with pytest.raises(ValueError, match="needs a filter"):
        Query(name="")


def test_metadata_is_merged_and_none_takes_a_key_away(client):
    client.register_many([Registration("mod", None, "session-raw", {"keep": 1, "change": "a", "go": [1]})])
    changed = client.modify("mod", {"change": {"b": 2}, "go": None, "new": True})
    assert changed.metadata == {"keep": 1, "change": {"b": 2}, "new": True}
    assert client.get_resource("mod") == changed
    assert client.modify("no-such", {"a": 1}) is None
    with pytest.raises(RegistryRefused, match="not JSON"):
        client.modify("mod", {"a": float("inf")})


def test_a_location_is_deleted_once(client):
    client.register_many([Registration("del", None, "session-raw", {}, ("arch", "arch2"))])
    assert client.delete_location("del", "arch")
    assert not client.delete_location("del", "arch")
    assert [place.archive for place in client.locations("del")] == ["arch2"]


def test_many_are_found_and_listed(client):
    assert set(client.get_resources(["Sound-1", "sound-2", "nothing"])) == {"Sound-1", "sound-2"}
    assert {one.id for one in client.find_by_sha1s(["2" * 40, "f" * 40]).values()} == {"sound-2"}
    assert {"Sound-1", "spikes_1"} <= {resource.id for resource in client.iter_archive_resources("arch")}
    with pytest.raises(RegistryRefused, match="no such archive"):
        list(client.iter_archive_resources("arch3"))


def test_what_was_registered_is_described_alike(client):
    item = Registration("twice", "5" * 40, "session-raw", {"list": [1, {"a": None}]}, ("arch2", "arch"))
    first = client.register_many([item])
    assert client.register_many([item]) == first == [client.get_resource("twice")]
    (place,) = client.add_locations([("twice", "tape-1", "3:twice.dat")])
    assert (place.scheme, place.root, place.key) == ("tape", "T:1", "3:twice.dat")
    assert client.add_locations([("twice", "tape-1", "3:twice.dat")]) == [place]
    assert isinstance(client.add_locations([("twice", "tape-1", "other")])[0], RegistryRefused)
