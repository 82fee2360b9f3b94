"""The table of the lab's services: how each is started, told to be ready, and stopped."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aind_pipelines.lab import environment, probes
from aind_pipelines.lab.home import HOST, OPTIONS, HomeError, LabHome, write_private
from aind_pipelines.lab.postgres import SUPERUSER, Cluster


class Runner(Protocol):
    """How a service's steps run helper programs: supervised like the service itself, their output in its log."""

    async def __call__(
        self,
        argv: list[str],
        *,
        extra: Mapping[str, str] | None = None,
        replaced: Mapping[str, str] | None = None,
        demote: Callable[[], None] | None = None,
    ) -> None:
        """Run a program to its end.

        Args:
            argv: Program and arguments.
            extra: Variables beside the lab's.
            replaced: The whole environment instead.
            demote: Run in the child to give up rights first.

        Raises:
            StepFailed: It ended with another code than 0.
        """


Step = Callable[[Runner], Awaitable[None]]


@dataclass(frozen=True)
class ServiceSpec:
    """One service of the lab.

    Attributes:
        name: As people type it.
        url: Where it is reached, without credentials.
        probe: Asks it whether it is ready.
        argv: Program and arguments; empty when the service is somebody else's.
        environment: Variables beside the lab's own.
        whole_environment: Its whole environment instead of the lab's, if not None.
        port: The loopback port it must have, None for an external service.
        depends_on: Services that must be ready before it is started the first time; it is stopped before them.
        stop_signal: What ends it cleanly.
        demote: Run in the child to give up rights before the program starts.
        before: Step before each start.
        after: Step when it answers for the first time; it is ready when that is done.
        sweep: Ends what the program has put into sessions of its own, where neither its end nor that of its process
            group reaches it; called when the program has ended.
        deadline: Seconds from start to ready.
        option: What named it on the command line, when it is somebody else's.
    """

    name: str
    url: str
    probe: probes.Probe
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    whole_environment: Mapping[str, str] | None = field(default=None, repr=False)
    port: int | None = None
    depends_on: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    demote: Callable[[], None] | None = None
    before: Step | None = None
    after: Step | None = None
    sweep: Callable[[], object] | None = None
    deadline: float = 60.0
    option: str = ""

    @property
    def external(self) -> bool:
        """Whether somebody else runs it."""
        return not self.argv


def table(home: LabHome) -> list[ServiceSpec]:
    """The services of the lab in this home, ready to be supervised.

    Raises:
        HomeError: Something they need is missing on this machine.
    """
    keys = home.secrets
    return [
        _postgres(home),
        _docdb(home),
        _python(
            home,
            "docdb_gateway",
            ready="/healthcheck",
            environment={
                "DOCDB_GATEWAY_MONGO_URI": home.docdb().uri,
                "DOCDB_GATEWAY_KEYS": json.dumps({keys["aws_access_key_id"]: keys["aws_secret_access_key"]}),
            },
            module="aind_pipelines.services.docdb_gateway",
            depends_on=("docdb",),
        ),
        _python(home, "aws", "--seed", str(home.seed_dir), ready="/moto-api/data.json", deadline=120.0),
        _bastion(home),
        _registry(home),
        _python(
            home,
            "metadata_service",
            "--tables",
            str(home.seed_dir / "metadata_service.json"),
            ready="/api/v2/healthcheck",
            module="aind_pipelines.services.metadata_service",
        ),
        _python(
            home,
            "code_ocean",
            "--state",
            str(home.seed_dir / "code_ocean.json"),
            ready="/healthcheck",
            environment={"CODE_OCEAN_API_TOKEN": keys["code_ocean_token"]},
        ),
    ]


def _program(home: LabHome, name: str, module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--host", HOST, "--port", str(home.ports[name]), *arguments)


def _python(
    home: LabHome,
    name: str,
    *arguments: str,
    ready: str,
    module: str | None = None,
    environment: Mapping[str, str] | None = None,
    depends_on: tuple[str, ...] = (),
    after: Step | None = None,
    deadline: float = 60.0,
) -> ServiceSpec:
    return ServiceSpec(
        name,
        home.url(name),
        probes.http(f"http://{HOST}:{home.ports[name]}{ready}"),
        _program(home, name, module or f"aind_pipelines.lab.{name}", *arguments),
        environment or {},
        port=home.ports[name],
        depends_on=depends_on,
        after=after,
        deadline=deadline,
    )


def _postgres(home: LabHome) -> ServiceSpec:
    server = home.postgres()

    async def prepare(run: Runner) -> None:
        await run([sys.executable, "-m", "aind_pipelines.lab.preparation", "--home", str(home.root)])

    if "postgres" in home.external:
        probe = probes.tcp(server.host, server.port)
        return ServiceSpec("postgres", home.url("postgres"), probe, after=prepare, option=OPTIONS["postgres"])
    cluster = Cluster(home)
    own_environment = cluster.environment(environment.inherited())

    async def create(run: Runner) -> None:
        cluster.settle_ownership()
        if not cluster.exists:
            password = home.secrets["postgres_password"]
            await run(cluster.creation(password), replaced=own_environment, demote=cluster.demote)
            cluster.adopt()
        cluster.end_orphans()
        cluster.forget_dead_server()

    return ServiceSpec(
        "postgres",
        home.url("postgres"),
        probes.postgres(HOST, server.port, SUPERUSER, "postgres"),
        tuple(cluster.server(server.port)),
        whole_environment=own_environment,
        port=server.port,
        # SIGTERM would wait for clients, and Dagster keeps its connections.
        stop_signal=signal.SIGINT,
        demote=cluster.demote,
        before=create,
        after=prepare,
        sweep=cluster.end_orphans,
    )


def _docdb(home: LabHome) -> ServiceSpec:
    docdb = home.docdb()
    if "docdb" in home.external:

        async def log_in(run: Runner) -> None:
            await run([sys.executable, "-m", "aind_pipelines.lab.preparation", "--home", str(home.root), "--docdb"])

        probe = probes.tcp(*docdb.hosts[0])
        return ServiceSpec("docdb", home.url("docdb"), probe, after=log_in, option=OPTIONS["docdb"])
    port = home.ports["docdb"]
    return ServiceSpec(
        "docdb",
        home.url("docdb"),
        probes.mongo(HOST, port),
        _program(home, "docdb", "aind_pipelines.lab.docdb", "--data", str(home.data("docdb"))),
        {"DOC_DB_USERNAME": docdb.username or "", "DOC_DB_PASSWORD": docdb.password or ""},
        port=port,
        deadline=120.0,
    )


def _bastion(home: LabHome) -> ServiceSpec:
    folder = home.data("bastion")
    config_file = folder / "config.json"
    server = home.postgres()
    config = {
        "host": HOST,
        "port": home.ports["bastion"],
        "username": "bastion",
        "password": home.secrets["bastion_password"],
        "host_key": str(folder / "host_key"),
        "client_key": str(folder / "client_key"),
        "allow": [*home.docdb().hosts, (server.host, server.port)],
    }

    async def configure(_: Runner) -> None:
        write_private(config_file, json.dumps(config, indent=2) + "\n")

    return ServiceSpec(
        "bastion",
        home.url("bastion"),
        probes.ssh(HOST, home.ports["bastion"]),
        (sys.executable, "-m", "aind_pipelines.lab.bastion", "--config", str(config_file)),
        port=home.ports["bastion"],
        before=configure,
    )


def _registry(home: LabHome) -> ServiceSpec:
    login = home.environment()
    settings = {
        "REGISTRY_DATABASE_URL": f"sqlite:///{home.registry_database}",
        "REGISTRY_SECRET_KEY": home.secrets["registry_secret_key"],
        # A slow password hash on every request protects nothing on loopback.
        "REGISTRY_FAST_PASSWORDS": "1",
    }
    module = "aind_pipelines.services.registry"

    async def add_user(run: Runner) -> None:
        done = home.data("registry") / "user-created"
        if done.exists():
            return
        await run(
            [sys.executable, "-m", module, "create-user", login["NBANK_USERNAME"]],
            extra=settings | {"REGISTRY_USER_PASSWORD": login["NBANK_PASSWORD"]},
        )
        _touch(done)

    return _python(home, "registry", ready="/neurobank/info/", module=module, environment=settings, after=add_user)


def _touch(file: Path) -> None:
    try:
        file.touch(mode=0o600)
    except OSError as error:
        raise HomeError(f"{file} cannot be written: {error.strerror}.") from error
