"""``aind-pipelines archive list`` and ``locate``."""

import json


def stored(live, path):
    return live / "resources" / path.name[:2] / path.name


def test_locate_finds_short_and_full_identifiers(live, run, deposited, files, registry_process):
    full = f"{registry_process.url}resources/{deposited[1]}/"
    code, out, _ = run("archive", "locate", deposited[0], full, "nothing-here")
    assert code == 1
    assert out.splitlines() == [
        f"{deposited[0]:<20}\t{stored(live, files[0])}",
        f"{full:<20}\t{stored(live, files[1])}",
        f"{'nothing-here':<20}\t(not found)",
    ]
    code, out, _ = run("archive", "locate", "-j", "-@", stdin=f"# list\n{deposited[0]}\n\n".encode())
    assert (code, json.loads(out)["locations"]) == (0, [str(stored(live, files[0]))])
    code, out, _ = run("archive", "locate", "--json", deposited[0], "nothing-here")
    assert (code, [row.get("error") for row in json.loads(out)]) == (1, [None, "not found"])


def test_a_full_identifier_needs_no_registry_of_our_own(live, run, deposited, monkeypatch, registry_process):
    monkeypatch.delenv("NBANK_REGISTRY")
    code, out, _ = run("archive", "locate", f"{registry_process.url}resources/{deposited[0]}/")
    assert (code, len(out.splitlines())) == (0, 1)
    assert run("archive", "locate", deposited[0])[0] == 2


def test_paths_for_xargs_are_paths_and_nothing_else(live, run, deposited, files):
    code, out, err = run("archive", "locate", "-0", *deposited)
    assert (code, err) == (0, "")
    assert out == "".join(f"{stored(live, path)}\0" for path in files)
    code, out, err = run("archive", "locate", "-0", "nothing-here", deposited[0])
    assert (code, out) == (1, f"{stored(live, files[0])}\0")
    assert "nothing-here" in err


def test_links_are_made_and_never_replace(live, run, deposited, files, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / files[1].name).write_text("mine")
    for _ in range(2):
        code, out, _ = run("archive", "locate", "-L", folder, *deposited)
        assert code == 1
        assert out.splitlines()[0] == f"{deposited[0]:<20}\t-> {folder / files[0].name}"
        assert "was left as it is" in out
    assert (folder / files[0].name).readlink() == stored(live, files[0])
    assert (folder / files[1].name).read_text() == "mine"


def test_what_only_a_tape_holds_is_said_to_be_there(run, deposited, live, files, registry_process, mark):
    with registry_process.client() as client:
        client.add_archive(f"tape-{mark}", mark, "tape")
        client.add_location(deposited[0], f"tape-{mark}")
    stored(live, files[0]).unlink()
    code, out, _ = run("archive", "locate", deposited[0])
    assert code == 1
    assert f"tape-{mark}" in out
    listed = run("archive", "list", "-n", f"tape-{mark}", "--scheme", "tape")[1]
    assert listed == f"{'tape-' + mark:<25}\ttape://{mark}\n"


def test_the_registry_is_asked_in_bulk(live, run, deposited, monkeypatch):
    from aind_pipelines.clients.registry.transport import Transport

    asked = []
    send = Transport.send
    monkeypatch.setattr(
        Transport, "send", lambda self, method, path, **rest: (asked.append(path), send(self, method, path, **rest))[1]
    )
    many = [f"{deposited[0]}-{number}" for number in range(400)]
    assert run("archive", "locate", *deposited, *many)[0] == 1
    assert len(asked) <= 4


def test_without_a_registry_the_command_says_how_to_name_one(run, monkeypatch):
    monkeypatch.delenv("NBANK_REGISTRY")
    code, _, err = run("archive", "list")
    assert code == 2
    assert "NBANK_REGISTRY" in err
