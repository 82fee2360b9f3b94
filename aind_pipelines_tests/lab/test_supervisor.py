from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from aind_pipelines.lab import control, environment
from aind_pipelines.lab.home import HomeError, HomeInUse, LabError, LabHome
from aind_pipelines.lab.processes import Recorded, identity
from aind_pipelines.lab.supervisor import CRASH_LIMIT, recorded_children, take_over

from .conftest import PROGRAM, TinyLab


def processes_of(lab: TinyLab) -> tuple[Recorded, list[Recorded]]:
    owner, children = recorded_children(lab.home)
    assert owner is not None
    assert children
    return owner, children


def wait_for_the_end(processes: list[Recorded], seconds: float = 3.0) -> list[int]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.alive for process in processes):
        time.sleep(0.02)
    return [process.pid for process in processes if process.alive]


def test_up_returns_when_every_service_is_ready_and_again_says_so(tiny: TinyLab) -> None:
    assert tiny.up() is True
    seen = control.status(tiny.home)
    assert seen.healthy
    assert [service.name for service in seen.services] == ["docdb", "docdb_gateway", "aws"]
    assert len({service.pid for service in seen.services}) == 3
    assert [line for line in tiny.said if line.startswith("aws is ready")]
    assert tiny.up() is False
    assert control.status(tiny.home).pid == seen.pid


def test_a_service_starts_after_what_it_depends_on(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb_gateway", "depends_on": ["docdb"]}, {"name": "docdb", "arguments": ["--delay", "0.5"]})
    tiny.up()
    assert [line.split()[0] for line in tiny.said] == ["docdb", "docdb_gateway"]


def test_services_start_in_parallel(tiny: TinyLab) -> None:
    names = ("docdb", "aws", "bastion", "registry", "code_ocean")
    tiny.define(*({"name": name, "arguments": ["--delay", "3.0"]} for name in names))
    started = time.monotonic()
    tiny.up()
    assert time.monotonic() - started < 12  # one after the other they take 15


def test_a_service_sees_the_labs_environment_and_nothing_of_the_callers(
    tiny: TinyLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("RDS_HOST", "production.invalid")
    tiny.up()
    with urllib.request.urlopen(f"http://127.0.0.1:{tiny.home.ports['docdb']}/") as answer:
        seen = dict(line.split("=", 1) for line in answer.read().decode().splitlines())
    assert seen["RDS_HOST"] == "127.0.0.1"
    assert seen["HOME"] == str(tiny.home.root)
    allowed = set(environment.isolated(tiny.home)) | {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert set(seen) <= allowed
    assert not {"HTTPS_PROXY", "AWS_PROFILE"} & set(seen)


def test_nothing_of_the_lab_holds_the_callers_pipes(tiny: TinyLab) -> None:
    program = (
        "import sys; from aind_pipelines.lab import control; from aind_pipelines.lab.home import LabHome;"
        "control.ensure_up(LabHome(sys.argv[1]), program=sys.argv[2:]); print('up')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tiny.home.root, *PROGRAM],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(control.__file__).parents[2])},
    )
    assert (done.stdout, done.stderr) == ("up\n", "")
    assert control.status(tiny.home).healthy


def test_a_process_that_entered_before_there_was_a_lab_has_its_environment_once_it_is_up(tiny: TinyLab) -> None:
    program = (
        "import os, sys; from aind_pipelines.lab import control, environment, home as homes;"
        "home = homes.LabHome(sys.argv[1]); environment.enter(home); print(os.environ.get('RDS_PORT'));"
        "control.ensure_up(home, program=sys.argv[2:]); print(os.environ['RDS_PORT'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tiny.home.root, *PROGRAM],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={"PYTHONPATH": str(Path(control.__file__).parents[2]), "RDS_PORT": "1"},
    )
    assert done.stdout.split() == ["None", str(tiny.home.ports["postgres"])]


def test_a_program_that_cannot_be_started_ends_the_start_with_its_name(tiny: TinyLab) -> None:
    tiny.define({"name": "aws"}, {"name": "docdb", "program": "/nonexistent/program"})
    with pytest.raises(LabError, match=r"docdb .*/nonexistent/program"):
        tiny.up()


def test_a_fault_of_the_supervisors_own_ends_the_start_instead_of_hanging_it(tiny: TinyLab) -> None:
    tiny.define({"name": "aws"}, {"name": "docdb", "faulty": True})
    with pytest.raises(LabError, match=r"docdb cannot be supervised: ZeroDivisionError"):
        tiny.up()


def test_a_crashed_service_comes_back_on_its_port(tiny: TinyLab) -> None:
    tiny.up()
    before = tiny.service("docdb")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    after = tiny.wait_for("docdb", lambda service: service.healthy and service.restarts == 1)
    assert after.url == before.url
    assert after.pid != before.pid
    assert tiny.service("aws").restarts == 0


@pytest.mark.slow
def test_a_service_that_keeps_crashing_is_left_down_with_the_reason_and_can_be_tried_again(
    tiny: TinyLab, tmp_path: Path
) -> None:
    flag = tmp_path / "broken"
    tiny.define(
        {"name": "docdb", "arguments": ["--refuses", "the disk is on fire", "--refuses-if", str(flag)]},
        {"name": "aws"},
    )
    tiny.up()
    flag.touch()
    pid = tiny.service("docdb").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    failed = tiny.wait_for("docdb", lambda service: service.health == "failed")
    assert failed.restarts == CRASH_LIMIT
    assert "the disk is on fire" in failed.reason
    assert tiny.service("aws").healthy
    assert not control.status(tiny.home).healthy
    with pytest.raises(LabError, match="the disk is on fire"):
        control.release(tiny.home, "docdb")
    flag.unlink()
    assert tiny.up() is False
    assert tiny.service("docdb").healthy


def test_a_held_service_stays_down_until_it_is_released(tiny: TinyLab) -> None:
    tiny.up()
    port = tiny.home.ports["aws"]
    control.hold(tiny.home, "aws")
    control.hold(tiny.home, "aws")
    held = tiny.service("aws")
    assert (held.health, held.pid) == ("held", None)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
    tiny.up()
    assert tiny.service("aws").health == "held"
    control.release(tiny.home, "aws")
    control.release(tiny.home, "aws")
    assert tiny.service("aws").healthy
    assert tiny.home.ports["aws"] == port


def test_a_deaf_service_is_held_down_by_force_with_what_it_started(tiny: TinyLab, tmp_path: Path) -> None:
    tiny.define({"name": "docdb", "arguments": ["--deaf", "--child", str(tmp_path / "pid")]})
    tiny.up()
    grandchild = int((tmp_path / "pid").read_text())
    assert identity(grandchild) is not None
    control.hold(tiny.home, "docdb")
    assert tiny.service("docdb").pid is None
    deadline = time.monotonic() + 2
    while identity(grandchild) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert identity(grandchild) is None


def test_a_service_that_hangs_is_seen(tiny: TinyLab) -> None:
    tiny.up()
    pid = tiny.service("docdb").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert tiny.service("docdb").health == "unresponsive"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tiny.service("docdb").healthy


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_cleanly(tiny: TinyLab, number: int) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    os.kill(owner.pid, number)
    assert wait_for_the_end([owner, *children]) == []
    os.close(tiny.home.lock(wait=2))
    assert not tiny.home.state_file.exists()
    assert {service.health for service in control.status(tiny.home).services} == {"stopped"}


def test_a_killed_supervisor_leaves_no_child_and_the_next_start_works(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb"}, {"name": "aws", "arguments": ["--deaf"]})
    tiny.up()
    ports = tiny.home.ports
    owner, children = processes_of(tiny)
    os.kill(owner.pid, signal.SIGKILL)
    assert wait_for_the_end(children) == []
    assert tiny.up() is True
    assert tiny.home.ports == ports
    assert control.status(tiny.home).healthy


def test_children_that_outlived_supervisor_and_watchdog_are_ended_by_the_next_start(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb"}, {"name": "aws", "arguments": ["--deaf"]})
    tiny.up()
    owner, children = processes_of(tiny)
    watchdogs = [
        child for child in psutil.Process(owner.pid).children() if child.pid not in {known.pid for known in children}
    ]
    assert len(watchdogs) == 1
    watchdogs[0].kill()
    os.kill(owner.pid, signal.SIGKILL)
    wait_for_the_end([owner])
    deaf = [child for child in children if child.alive]
    assert deaf
    assert tiny.up() is True
    assert [child.pid for child in deaf if child.alive] == []


def test_down_ends_what_a_killed_supervisor_left(tiny: TinyLab) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    os.kill(owner.pid, signal.SIGSTOP)
    # It cannot answer, cannot obey SIGTERM, and has not gone.
    started = time.monotonic()
    with pytest.raises(HomeInUse):
        take_over(tiny.home)
    assert time.monotonic() - started < 5  # at once, instead of after the time it gives a live one
    os.kill(owner.pid, signal.SIGKILL)
    assert control.stop(tiny.home) is True
    assert wait_for_the_end([owner, *children]) == []
    assert control.stop(tiny.home) is False


def test_a_second_supervisor_on_the_same_home_is_refused(tiny: TinyLab) -> None:
    tiny.up()
    second = subprocess.run(
        [*PROGRAM, "--home", str(tiny.home.root)], input="{}", capture_output=True, text=True, timeout=30, check=False
    )
    last = json.loads(second.stdout.splitlines()[-1])
    assert last["event"] == "failed"
    assert last["in_use"] is True
    assert "lab down" in last["reason"]
    assert control.status(tiny.home).healthy


def test_two_starts_at_once_make_one_lab(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb", "arguments": ["--delay", "0.5"]})
    with ThreadPoolExecutor(2) as both:
        assert sorted(both.map(lambda _: tiny.up(), range(2))) == [False, True]
    assert control.status(tiny.home).healthy


def test_a_service_that_does_not_start_ends_the_start_with_its_name_and_reason(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb"}, {"name": "aws", "arguments": ["--refuses", "no moto here", "--delay", "0.3"]})
    with pytest.raises(LabError, match="aws ended with exit code 1 before it was ready") as failure:
        tiny.up()
    assert "no moto here" in str(failure.value)
    os.close(tiny.home.lock(wait=3))
    assert not control.is_up(tiny.home)


def test_a_service_that_is_not_ready_in_time_ends_the_start(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb", "arguments": ["--delay", "60"], "deadline": 0.5})
    with pytest.raises(LabError, match=r"docdb not ready within 0\.5 s"):
        tiny.up()


def test_a_port_taken_before_the_start_moves_and_is_named(tiny: TinyLab) -> None:
    tiny.home.initialise()
    before = tiny.home.ports["aws"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", before))
        other.listen()
        tiny.up()
        assert any(str(before) in line and "aws" in line for line in tiny.said)
        assert tiny.home.ports["aws"] != before
        assert control.status(tiny.home).healthy


def test_a_port_lost_during_the_start_moves_too(tiny: TinyLab, tmp_path: Path) -> None:
    # The service finds its port taken by a process that got there between the choice and the start.
    tiny.home.initialise()
    port = tiny.home.ports["aws"]
    tiny.define({"name": "aws", "arguments": ["--thief", str(tmp_path / "thief"), "--thief-port", str(port)]})
    try:
        tiny.up()
        assert tiny.home.ports["aws"] != port
        assert any(f"aws lost its port {port}" in line for line in tiny.said)
    finally:
        if (tmp_path / "thief").exists():
            os.kill(int((tmp_path / "thief").read_text()), signal.SIGKILL)


def test_a_port_lost_while_the_lab_is_up_is_told_with_what_its_user_can_do(tiny: TinyLab) -> None:
    advice = (
        "port {port} is taken by another program. When that has ended: aind-pipelines lab up docdb --home {home}. "
        "Or move docdb to another port: aind-pipelines lab down --home {home}, "
        "then aind-pipelines lab up --home {home}."
    )
    tiny.define({"name": "docdb"})
    tiny.up()
    port = tiny.home.ports["docdb"]
    said = advice.format(port=port, home=tiny.home.root)
    owner, children = processes_of(tiny)
    os.kill(owner.pid, signal.SIGSTOP)  # so that the port can be taken before the restart
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
    assert wait_for_the_end(children) == []
    with socket.create_server(("127.0.0.1", port)):
        os.kill(owner.pid, signal.SIGCONT)
        deadline = time.monotonic() + 20
        while not (reason := control.status(tiny.home).services[0].reason).endswith(said):
            assert time.monotonic() < deadline, reason
            time.sleep(0.1)
        control.hold(tiny.home, "docdb")
        with pytest.raises(LabError, match="before it was ready; port") as refusal:
            control.release(tiny.home, "docdb")
        assert refusal.value.message.endswith(said)
    control.release(tiny.home, "docdb")
    assert control.status(tiny.home).healthy


def test_an_interrupted_start_leaves_nothing(tiny: TinyLab) -> None:
    tiny.define({"name": "docdb", "arguments": ["--delay", "30"], "deadline": 60})

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    tiny.define({"name": "aws"}, {"name": "docdb", "arguments": ["--delay", "30"], "deadline": 60})
    with pytest.raises(KeyboardInterrupt):
        control.ensure_up(tiny.home, on_progress=interrupt, program=PROGRAM)
    os.close(tiny.home.lock(wait=3))
    assert not control.is_up(tiny.home)


def test_a_start_that_nobody_waits_for_any_more_is_given_up(tiny: TinyLab) -> None:
    tiny.define({"name": "aws", "arguments": ["--delay", "0.5"]}, {"name": "docdb", "arguments": ["--delay", "1"]})
    starter = subprocess.Popen(
        [*PROGRAM, "--home", str(tiny.home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.close()
        assert json.loads(starter.stdout.readline())["event"] == "started"
    deadline = time.monotonic() + 10
    while "has gone" not in tiny.home.log("supervisor").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.close(tiny.home.lock(wait=5))
    assert not control.is_up(tiny.home)


def test_a_lab_whose_home_is_removed_ends(tiny: TinyLab) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    shutil.rmtree(tiny.home.root)
    assert wait_for_the_end([owner, *children], 6.0) == []


def test_a_home_that_cannot_be_used_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="not a folder"):
        control.ensure_up(LabHome(tmp_path / "file"), program=PROGRAM)


def test_external_services_are_remembered_and_another_choice_is_refused_while_up(tiny: TinyLab) -> None:
    tiny.define({"name": "aws"})
    tiny.up(docdb_uri="mongodb://docdb.example/")
    assert tiny.home.docdb().hosts == (("docdb.example", 27017),)
    assert tiny.up(docdb_uri="mongodb://docdb.example/") is False
    with pytest.raises(LabError, match="--docdb-uri"):
        tiny.up(docdb_uri="mongodb://other.example/")
    control.stop(tiny.home)
    tiny.up()
    assert tiny.home.docdb().hosts == (("127.0.0.1", tiny.home.ports["docdb"]),)


def test_control_demands_the_token(tiny: TinyLab) -> None:
    tiny.up()
    port = json.loads(tiny.home.state_file.read_text())["control"]["port"]
    for request in (b'{"token": "guess", "command": "stop"}\n', b"[]\n", b"nonsense\n", b'{"command": "stop"}\n'):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(request)
            assert json.loads(connection.makefile().readline()) == {"error": "not allowed"}
    assert tiny.home.state_file.stat().st_mode & 0o777 == 0o600
    assert control.status(tiny.home).healthy


def test_commands_for_a_lab_that_is_not_up_say_how_to_start_it(tiny: TinyLab) -> None:
    for command in (control.hold, control.release):
        with pytest.raises(control.NotUp, match="lab up"):
            command(tiny.home, "docdb")
    tiny.up()
    with pytest.raises(LabError, match="no service"):
        control.hold(tiny.home, "registry")


def test_a_damaged_state_file_does_not_keep_the_lab_down(tiny: TinyLab) -> None:
    tiny.home.initialise()
    tiny.home.state_file.write_text('{"supervisor": ')
    assert tiny.up() is True


def test_no_secret_is_in_a_command_line_or_a_log(tiny: TinyLab) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    shown = "".join(" ".join(psutil.Process(process.pid).cmdline()) for process in (owner, *children))
    control.stop(tiny.home)
    shown += "".join(log.read_text() for log in tiny.home.logs_dir.iterdir())
    assert not [name for name, secret in tiny.home.secrets.items() if secret in shown]


_USER = (
    "import sys, time; from aind_pipelines.lab import control; from aind_pipelines.lab.home import LabHome;"
    "control.ensure_up(LabHome(sys.argv[1]), program=sys.argv[2:], while_used=True); print('up', flush=True);"
    "time.sleep(60)"
)


def _user_of(lab: TinyLab) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _USER, str(lab.home.root), *PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(control.__file__).parents[2])},
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "up\n"
    return process


def test_a_lab_that_is_there_for_somebody_ends_when_the_last_of_them_is_killed(tiny: TinyLab) -> None:
    first, second = _user_of(tiny), _user_of(tiny)
    owner, children = processes_of(tiny)
    first.kill()
    first.wait()
    time.sleep(1.5)  # longer than the supervisor takes to look
    assert control.status(tiny.home).healthy
    second.kill()
    second.wait()
    assert wait_for_the_end([owner, *children], 8.0) == []


def test_a_lab_that_is_there_for_one_process_ends_when_it_leaves(tiny: TinyLab) -> None:
    tiny.up(while_used=True)
    owner, children = processes_of(tiny)
    assert control.leave(tiny.home) is True
    assert not any(process.alive for process in (owner, *children))
    assert tiny.up(while_used=True) is True


def test_leaving_a_lab_that_others_use_or_that_is_to_stay_leaves_it_up(tiny: TinyLab) -> None:
    other = _user_of(tiny)
    assert tiny.up(while_used=True) is False
    assert control.leave(tiny.home) is False
    assert control.status(tiny.home).healthy
    assert tiny.up() is False  # to stay, from now on
    other.kill()
    other.wait()
    time.sleep(1.5)
    assert control.status(tiny.home).healthy


def test_a_lab_that_a_background_job_started_listens_to_sigint(tiny: TinyLab) -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        tiny.up()
    finally:
        signal.signal(signal.SIGINT, previous)
    owner, children = processes_of(tiny)
    owner.signal(signal.SIGINT)
    assert wait_for_the_end([owner, *children], 8.0) == []


def test_a_copy_of_a_lab_is_refused_and_never_touches_it(tiny: TinyLab, tmp_path: Path) -> None:
    tiny.up()
    copy = LabHome(shutil.copytree(tiny.home.root, tmp_path / "copy"))
    for ask in (control.status, environment.exports, lambda home: control.ensure_up(home, program=PROGRAM)):
        with pytest.raises(LabError, match=rf"is a copy of the lab in {tiny.home.root}.*lab up --home DIR"):
            ask(copy)
    with pytest.raises(control.NotUp):
        control.hold(copy, "aws")
    assert control.leave(copy) is False
    assert control.stop(copy) is False
    assert control.status(tiny.home).healthy
    assert {service.restarts for service in control.status(tiny.home).services} == {0}


def test_a_copy_whose_original_is_gone_is_the_lab(tiny: TinyLab, tmp_path: Path) -> None:
    tiny.up()
    copy = TinyLab(Path(shutil.copytree(tiny.home.root, tmp_path / "copy")))
    control.stop(tiny.home)
    shutil.rmtree(tiny.home.root)
    TinyLab(tiny.home.root).define()  # a lab that is made there later is another one
    tiny.home.reload()
    tiny.home.initialise()
    try:
        assert copy.up() is True
        assert control.status(copy.home).healthy
    finally:
        control.stop(copy.home)


def test_a_home_reached_through_a_link_is_the_same_lab(tiny: TinyLab, tmp_path: Path) -> None:
    tiny.up()
    (tmp_path / "link").symlink_to(tiny.home.root)
    linked = LabHome(tmp_path / "link")
    assert control.status(linked) == control.status(tiny.home)
    assert control.ensure_up(linked, program=PROGRAM) is False


def test_a_lab_whose_home_is_moved_ends_and_starts_at_its_new_place(tiny: TinyLab, tmp_path: Path) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    ports, secrets = tiny.home.ports, tiny.home.secrets
    moved = TinyLab(tiny.home.root.rename(tmp_path / "moved"))
    try:
        assert moved.up() is True
        assert not [process.pid for process in (owner, *children) if process.alive]
        assert (moved.home.ports, moved.home.secrets) == (ports, secrets)
        assert [line for line in moved.said if "was moved here from" in line]
        assert not tiny.home.root.exists()
    finally:
        control.stop(moved.home)


def test_a_lab_that_took_the_place_of_a_moved_one_is_left_alone(tiny: TinyLab, tmp_path: Path) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    rows = json.loads((tiny.home.root / ".fake.json").read_text())
    os.kill(owner.pid, signal.SIGSTOP)  # it sees what has happened when both are done
    tiny.home.root.rename(tmp_path / "moved")
    successor = TinyLab(tiny.home.root)
    successor.define(*rows)
    successor.up()
    os.kill(owner.pid, signal.SIGCONT)
    assert wait_for_the_end([owner, *children], 10.0) == []
    assert control.status(successor.home).healthy


@pytest.mark.slow
def test_a_supervisor_that_hangs_is_named_with_its_process_and_can_be_stopped(tiny: TinyLab) -> None:
    tiny.up()
    owner, children = processes_of(tiny)
    os.kill(owner.pid, signal.SIGSTOP)
    seen = control.status(tiny.home)
    assert (seen.up, seen.healthy, seen.pid) == (False, False, owner.pid)
    assert {service.health for service in seen.services} == {"unknown"}
    assert all(part in seen.reason for part in (str(owner.pid), "lab down --home", "kill -CONT"))
    shown = subprocess.run(
        [sys.executable, "-m", "aind_pipelines.cli", "lab", "status", "--home", str(tiny.home.root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(control.__file__).parents[2])},
    )
    assert shown.returncode == 1
    assert f"supervisor unresponsive: {seen.reason}" in shown.stdout
    for ask in (tiny.up, lambda: control.hold(tiny.home, "aws")):
        with pytest.raises(control.Unresponsive, match=f"process {owner.pid}, lives and does not answer"):
            ask()
    assert control.stop(tiny.home) is True
    assert not [process.pid for process in (owner, *children) if process.alive]
    assert tiny.up() is True


def test_a_supervisor_that_was_suspended_goes_on(tiny: TinyLab) -> None:
    tiny.up()
    owner, _ = processes_of(tiny)
    os.kill(owner.pid, signal.SIGSTOP)
    assert not control.is_up(tiny.home)
    os.kill(owner.pid, signal.SIGCONT)
    assert control.status(tiny.home).healthy
