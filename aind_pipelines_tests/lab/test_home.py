from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.lab.home import SERVICES, DocDB, HomeError, HomeInUse, LabHome, Postgres, port_is_free
from aind_pipelines.settings import Settings, setting_names

as_ordinary_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@pytest.fixture
def home(tmp_path: Path) -> LabHome:
    made = LabHome(tmp_path / "a lab")
    made.initialise()
    return made


def test_ports_and_secrets_survive_a_new_look_at_the_home(home: LabHome) -> None:
    again = LabHome(home.root)
    assert again.initialise() == []
    assert (again.ports, again.secrets) == (home.ports, home.secrets)
    assert set(home.ports) == set(SERVICES)
    assert len(set(home.ports.values())) == len(SERVICES)


def test_two_homes_share_no_secret(home: LabHome, tmp_path: Path) -> None:
    other = LabHome(tmp_path / "other")
    other.initialise()
    assert not set(other.secrets.values()) & set(home.secrets.values())


def test_a_port_taken_by_another_program_is_replaced_and_named(home: LabHome) -> None:
    before = home.ports
    with socket.socket() as other:
        other.bind(("127.0.0.1", before["docdb"]))
        other.listen()
        notes = home.initialise()
    assert home.ports["docdb"] != before["docdb"]
    assert {name: port for name, port in home.ports.items() if name != "docdb"} == {
        name: port for name, port in before.items() if name != "docdb"
    }
    assert len(notes) == 1
    assert str(before["docdb"]) in notes[0]
    assert "docdb" in notes[0]


def test_ports_are_not_those_of_outgoing_connections(home: LabHome) -> None:
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not range_file.exists():
        pytest.skip("this system does not tell its range")
    first = int(range_file.read_text().split()[0])
    if first <= 15000:
        pytest.skip("this system gives nearly every port to outgoing connections")
    assert all(port < first for port in home.ports.values())
    assert all(port_is_free(port) for port in home.ports.values())


def test_what_is_private_is_readable_by_its_owner_only(home: LabHome) -> None:
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert home.file.stat().st_mode & 0o777 == 0o600


def test_an_open_home_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    LabHome(tmp_path).check()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_no_secret_is_in_a_repr(home: LabHome) -> None:
    shown = repr(home) + repr(home.postgres()) + repr(home.docdb())
    assert not [name for name, secret in home.secrets.items() if secret in shown]


def test_asking_a_home_without_a_lab_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="aind-pipelines lab up"):
        _ = LabHome(tmp_path).ports


def test_a_file_in_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="not a folder"):
        LabHome(tmp_path / "file").initialise()
    with pytest.raises(HomeError, match="not a folder"):
        LabHome(tmp_path / "file" / "below").initialise()


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(HomeError, match=r"thesis\.tex"):
        LabHome(tmp_path).initialise()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@as_ordinary_user
def test_a_home_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(HomeError, match="not writable"):
            LabHome(tmp_path / "lab").initialise()
    finally:
        tmp_path.chmod(0o755)


def test_a_home_below_a_folder_that_may_not_be_passed_is_refused_by_every_command(tmp_path: Path) -> None:
    program = (
        "import encodings.ascii, os, sys\n"
        "from aind_pipelines.lab import control\n"
        "from aind_pipelines.lab.home import HomeError, LabHome\n"
        "if os.geteuid() == 0:\n"  # root may pass every folder
        "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "home = LabHome(sys.argv[1])\n"
        "for step in (home.check, lambda: home.exists, lambda: home.ports, lambda: control.ensure_up(home),\n"
        "             lambda: control.status(home), lambda: control.is_up(home), lambda: control.stop(home),\n"
        "             lambda: control.hold(home, 'docdb')):\n"
        "    try:\n"
        "        step()\n"
        "    except HomeError as error:\n"
        "        print(error.message)\n"
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, closed / "below" / "lab"], capture_output=True, text=True, check=False
        )
    finally:
        closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    refusal = f"{closed / 'below' / 'lab'} is not writable (Permission denied). Choose a --home that you may write to."
    assert done.stdout.splitlines() == [refusal] * 8


def test_a_link_that_leads_to_itself_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(HomeError, match="--home"):
        LabHome(tmp_path / "link").check()


def test_what_could_begin_a_line_of_its_own_in_the_exports_is_refused(tmp_path: Path) -> None:
    for hostile in ("a\ntouch x", "a\rtouch x", "a\x1b[2K", "a\x85touch x"):
        with pytest.raises(HomeError, match=r"control character .*--home"):
            LabHome(tmp_path / hostile)
        with pytest.raises(HomeError, match="--docdb-uri holds a control character"):
            LabHome(tmp_path / "lab").initialise(docdb_uri=f"mongodb://user:{hostile}@db.example/")
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "link").symlink_to("a\nb")
    with pytest.raises(HomeError, match="control character"):
        LabHome(tmp_path / "link")
    assert {path.name for path in tmp_path.iterdir()} == {"a\nb", "link"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_home_of_another_user_is_refused_even_to_root(home: LabHome) -> None:
    os.chown(home.root, 65534, 65534)
    with pytest.raises(HomeError, match="another user"):
        home.initialise()


def test_a_disk_without_room_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="MB left"):
        LabHome(tmp_path / "lab").check(needed_bytes=2**62)
    assert list((tmp_path / "lab").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_leaves_the_lab_as_it_was(home: LabHome, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir(mode=0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        before = home.file.read_bytes()
        (small / "lab.json").write_bytes(before)
        (small / "data").mkdir()
        with pytest.raises(OSError, match="No space"):
            (small / "data" / "filler").write_bytes(bytes(2**20))
        with pytest.raises(HomeError, match="full"):
            LabHome(small).check(needed_bytes=0)
        assert (small / "lab.json").read_bytes() == before
        assert not list(small.glob(".*"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_damaged_lab_file_is_named(home: LabHome) -> None:
    home.file.write_text("{")
    with pytest.raises(HomeError, match=r"lab\.json"):
        _ = LabHome(home.root).ports


def test_a_lab_file_of_another_version_is_refused(home: LabHome) -> None:
    home.file.write_text(json.dumps({"format": 99}))
    with pytest.raises(HomeError, match="another version"):
        _ = LabHome(home.root).ports


def test_the_lock_has_one_holder_and_goes_with_its_process(home: LabHome) -> None:
    program = (
        "import sys, time; from aind_pipelines.lab.home import LabHome;"
        "LabHome(sys.argv[1]).lock(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, home.root], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeInUse, match="lab down"):
            home.lock()
        holder.kill()
    os.close(home.lock(wait=5))


def test_the_environment_names_only_what_settings_know(home: LabHome) -> None:
    known = {name for field in Settings.model_fields for name in setting_names(field)}
    known |= {"HOME", "AIND_PIPELINES_NO_DOTENV", "NETRC", "NO_PROXY", "no_proxy"}
    known |= {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"}
    known |= {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"}
    assert set(home.environment()) <= known


def test_every_setting_has_a_value_in_the_lab_except_those_that_say_otherwise_elsewhere(home: LabHome) -> None:
    elsewhere = {"aws_profile", "aws_param_store_name", "aws_session_token"}
    environment = home.environment()
    missing = {field for field in Settings.model_fields if not any(n in environment for n in setting_names(field))}
    assert missing == elsewhere


def test_external_services_are_what_the_environment_says(home: LabHome) -> None:
    home.initialise(
        docdb_uri="mongodb://reader:p%40ss@docdb.example:27018/?tls=true",
        postgres_url="postgresql://analyst:s%2Fcret@rds.example/tables?sslmode=require",
    )
    environment = LabHome(home.root).environment()
    assert environment["DOC_DB_HOST"] == "docdb.example"
    assert environment["DOC_DB_PORT"] == "27018"
    assert environment["DOC_DB_PASSWORD"] == "p@ss"
    assert environment["PGHOST"] == environment["RDS_HOST"] == "rds.example"
    assert environment["PGPASSWORD"] == environment["RDS_PASSWORD"] == "s/cret"
    assert environment["PGDATABASE"] == "tables"
    assert environment["PGSSLMODE"] == "require"
    assert home.dagster_postgres().database == "tables_dagster"
    assert "p%40ss" not in home.url("docdb")
    home.initialise()
    assert LabHome(home.root).environment()["DOC_DB_HOST"] == "127.0.0.1"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:p@h/d",
        "postgresql://h/d",
        "postgresql://u@h",
        "postgresql://u:p@h:port/d",
        "postgresql://u:p@h:0/d",
        "postgresql://u:p@h:99999/d",
        "postgresql://u:p@h/d?options=-c",
        "postgresql://u:p@[::1/d",
        "postgresql://u:p@h..x/d",
        "postgresql://u:p@" + "h" * 300 + "/d",
        "",
    ],
)
def test_a_malformed_postgres_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(HomeError) as refusal:
        Postgres.from_url(url)
    assert "u:p@" not in str(refusal.value)
    assert "--postgres-url" in str(refusal.value)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb+srv://u:p@h/",
        "http://h",
        "mongodb://u:p@/",
        "mongodb://u:p@h:x/",
        "mongodb://u:p@h:0/",
        "mongodb://u:p@h:70000/",
        "mongodb://u:p@[::1",
        "mongodb://u:p@h,h..x/",
    ],
)
def test_a_malformed_docdb_uri_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(HomeError) as refusal:
        DocDB.from_uri(uri)
    assert "u:p@" not in str(refusal.value)
    assert "--docdb-uri" in str(refusal.value)


def test_a_part_of_a_password_that_looks_like_a_port_is_not_repeated() -> None:
    with pytest.raises(HomeError, match="not a number") as refusal:
        DocDB.from_uri("mongodb://user:hid/den@h:27017/")
    assert "hid" not in str(refusal.value)


def test_the_range_of_a_port_is_told() -> None:
    with pytest.raises(HomeError, match="not between 1 and 65535"):
        Postgres.from_url("postgresql://u:p@h:99999/d")


def test_every_member_of_a_docdb_cluster_is_known() -> None:
    docdb = DocDB.from_uri("mongodb://a:1,b,[::1]:3/?replicaSet=rs0")
    assert docdb.hosts == (("a", 1), ("b", 27017), ("::1", 3))
    assert docdb.username is None


@given(user=words, password=words, database=words, port=st.integers(1, 65535))
def test_a_postgres_login_survives_its_url(user: str, password: str, database: str, port: int) -> None:
    login = Postgres("db.example", port, user, password, database, (("sslmode", "require"),))
    assert Postgres.from_url(login.url("postgresql")) == login
