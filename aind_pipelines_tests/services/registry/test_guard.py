"""The last location of a resource stays, however it is asked for and by how many at once."""

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from aind_pipelines.clients.registry import Registration, RegistryRefused
from aind_pipelines_tests.archive.test_interop import NBANK
from aind_pipelines_tests.counts import examples
from aind_pipelines_tests.registry_process import ADMIN, PASSWORD, USER, RegistryProcess


def delete(registry: RegistryProcess, name: str, archive: str, user: str = USER) -> requests.Response:
    url = f"{registry.url}resources/{name}/locations/{archive}/"
    return requests.delete(url, auth=(user, PASSWORD), timeout=30)


@pytest.fixture
def client(registry):
    with registry.client() as made:
        yield made


def test_the_last_location_cannot_be_deleted_even_by_a_superuser(registry, client, unique):
    client.register_many([Registration(unique, None, "session-raw", {}, ("one", "two"))])
    assert delete(registry, unique, "one").status_code == 204
    for user in (USER, ADMIN):
        answer = delete(registry, unique, "two", user)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith(f"two is the last location of {unique} and is kept.")
    assert [place.archive for place in client.locations(unique)] == ["two"]
    assert delete(registry, unique, "one").status_code == 404


def test_the_client_says_why(client, unique):
    client.register_many([Registration(unique, None, "session-raw", {}, ("one", "two"))])
    assert client.delete_location(unique, "one")
    assert not client.delete_location(unique, "one")
    with pytest.raises(RegistryRefused, match="last location"):
        client.delete_location(unique, "two")


def test_of_two_deletes_of_the_two_last_locations_exactly_one_succeeds(registry, client, unique):
    names = [f"{unique}-{number}" for number in range(examples(12))]
    client.register_many([Registration(name, None, "session-raw", {}, ("one", "two")) for name in names])
    with ThreadPoolExecutor(2) as pool:
        for name in names:
            together = threading.Barrier(2)

            def send(archive: str, name: str = name, together: threading.Barrier = together) -> int:
                together.wait(20)
                return delete(registry, name, archive).status_code

            assert sorted(pool.map(send, ["one", "two"])) == [204, 400]
    assert all(len(resource.locations) == 1 for resource in client.get_resources(names).values())


def test_a_record_can_still_be_deleted_as_a_whole(registry, client, unique):
    client.register_many([Registration(unique, None, "session-raw", {}, ("one",))])
    url = f"{registry.url}resources/{unique}/"
    assert requests.delete(url, auth=(ADMIN, PASSWORD), timeout=10).status_code == 204
    assert client.get_resource(unique) is None


@pytest.mark.skipif(not NBANK.exists(), reason="the neurobank command is not installed")
def test_the_published_command_prints_the_refusal(registry, client, unique, tmp_path):
    """Its prune deletes the location in the registry, then the file: the last copy's file stays."""
    folder = tmp_path / "live"
    command = [NBANK, "-r", registry.url, "-a", f"{USER}:{PASSWORD}"]

    def nbank(*arguments: object, input_: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60, input=input_
        )

    assert nbank("init", folder, "-n", unique).returncode == 0
    source = tmp_path / f"{unique}f.wav"
    source.write_bytes(unique.encode())
    assert nbank("deposit", folder, "-d", "session-raw", source).returncode == 0
    client.add_location(f"{unique}f", "two")
    stored = next((folder / "resources").rglob(f"{unique}f*"))
    listing = tmp_path / "list"
    listing.write_text(f"{unique}f\n")
    # Another prune is faster: the command has counted two locations when the other one goes.
    other = f"{registry.url}resources/{unique}f/locations/two/"
    script = (
        "import sys, nbank.script, httpx\n"
        "genuine = httpx.Client.send\n"
        "def late(self, request, **options):\n"
        "    if request.method == 'DELETE':\n"
        f"        other = self.build_request('DELETE', {other!r})\n"
        "        assert genuine(self, other, **options).status_code == 204\n"
        "    return genuine(self, request, **options)\n"
        "httpx.Client.send = late\n"
        "sys.exit(nbank.script.main())\n"
    )
    done = subprocess.run(
        [NBANK.with_name("python"), "-c", script, *command[1:], "archive", "prune", unique, listing],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "is the last location of" in done.stderr, done.stderr
    assert done.returncode == 1
    assert stored.exists()
    assert [place.archive for place in client.locations(f"{unique}f")] == [unique]
