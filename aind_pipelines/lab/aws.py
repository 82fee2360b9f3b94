"""S3, Secrets Manager and the parameter store of the lab: moto in a process of its own.

    python -m aind_pipelines.lab.aws --host 127.0.0.1 --port N --seed DIR

moto keeps nothing on disk. What ``DIR/aws`` holds is brought in before the port opens, so that whoever can connect
finds it, also after a restart; what was written over HTTP since then is lost with the process.

``POST /moto-api/lab-seed`` brings in what has come to ``DIR/aws`` since. Objects that are already there and equal
are left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from werkzeug.serving import make_server

from aind_pipelines.lab.seed.files import SUFFIX_WHILE_WRITING
from aind_pipelines.settings import S3Policy, SettingsError, load_policy

ACCOUNT = "123456789012"
REGION = "us-west-2"
RELOAD_PATH = "/moto-api/lab-seed"
READY_PATH = "/moto-api/data.json"


def _parameter_store() -> Any:
    """Moto's parameter store, without EC2.

    For commands sent to instances it imports all of moto's EC2, which takes 110 MB; the lab has no instances. The
    placeholder is gone again when EC2 itself is asked for.
    """
    if "moto.ssm.models" not in sys.modules and "moto.ec2" not in sys.modules:
        placeholder = types.ModuleType("moto.ec2")
        vars(placeholder)["ec2_backends"] = {}
        sys.modules["moto.ec2"] = placeholder
        try:
            importlib.import_module("moto.ssm.models")
        finally:
            del sys.modules["moto.ec2"]
    return importlib.import_module("moto.ssm.models").ssm_backends[ACCOUNT][REGION]


class SeedUnreadable(Exception):
    """A file of the seed is not what it should be; the message names it."""


@dataclass
class Loaded:
    """What one load brought in: things that were not there before, or differed."""

    buckets: int = 0
    objects: int = 0
    secrets: int = 0
    parameters: int = 0


def load_seed(folder: Path, buckets: Iterable[str]) -> Loaded:
    """Bring a seed into this process's moto.

    Args:
        folder: Holds ``s3/<bucket>/<key>``, ``secrets.json`` and ``parameters.json``, each of which may be missing.
        buckets: Buckets that exist whether or not the seed has objects for them.

    Raises:
        SeedUnreadable: A file cannot be read or holds something else.
    """
    loaded = Loaded()
    s3 = s3_backends[ACCOUNT]["aws"]
    objects_dir = folder / "s3"
    try:
        seeded = (
            sorted(entry.name for entry in objects_dir.iterdir() if entry.is_dir()) if objects_dir.is_dir() else []
        )
        for name in dict.fromkeys([*buckets, *seeded]):
            if name not in s3.buckets:
                s3.create_bucket(name, REGION)
                loaded.buckets += 1
        for name in seeded:
            for key, path in _objects(objects_dir / name):
                loaded.objects += _put_object(s3, name, key, path)
    except OSError as error:
        raise SeedUnreadable(f"{error.filename or objects_dir} cannot be read: {error.strerror}") from error
    for name, value in _named_objects(folder / "secrets.json").items():
        loaded.secrets += _put_secret(name, value)
    _parameter_store()
    for name, value in _named_objects(folder / "parameters.json").items():
        loaded.parameters += _put_parameter(name, value)
    return loaded


def _objects(folder: Path) -> Iterator[tuple[str, Path]]:
    for directory, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if not name.endswith(SUFFIX_WHILE_WRITING):
                path = Path(directory, name)
                yield path.relative_to(folder).as_posix(), path


def _put_object(s3: Any, bucket: str, key: str, path: Path) -> bool:
    body = path.read_bytes()
    present = s3.get_object(bucket, key)
    if present is not None and present.etag == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"':
        return False
    made = s3.put_object(bucket, key, body)
    # The file's time, so that an object does not look changed after each restart.
    made.last_modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    return True


def _named_objects(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SeedUnreadable(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise SeedUnreadable(f"{path} must hold one JSON object, not {type(document).__name__}")
    return {name: json.dumps(value) for name, value in document.items()}


def _put_secret(name: str, value: str) -> bool:
    backend = secretsmanager_backends[ACCOUNT][REGION]
    if name in backend.secrets:
        if backend.get_secret_value(name, "", "")["SecretString"] == value:
            return False
        backend.put_secret_value(
            secret_id=name,
            secret_string=value,
            secret_binary="",
            client_request_token="",
            version_stages=["AWSCURRENT"],
        )
        return True
    backend.create_secret(
        name=name,
        secret_string=value,
        secret_binary=None,
        description=None,
        tags=[],
        kms_key_id=None,
        client_request_token=None,
        replica_regions=[],
        force_overwrite=False,
    )
    return True


def _put_parameter(name: str, value: str) -> bool:
    backend = _parameter_store()
    present = backend.get_parameter(name)
    if present is not None and present.value == value:
        return False
    backend.put_parameter(
        name=name,
        description="",
        value=value,
        parameter_type="String",
        allowed_pattern="",
        keyid="",
        overwrite=True,
        tags=[],
        data_type="text",
        tier=None,
        policies=None,
    )
    return True


class _Handler(MotoRequestHandler):
    # Header and body are written apart: with Nagle's algorithm each answer would wait for the client's delayed ACK.
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Stay quiet: a load test would fill the disk."""


_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _with_lab_routes(application: _Application, load: Callable[[], Loaded]) -> _Application:
    """Answer the lab's own two requests, and leave the rest to moto.

    moto's own ``data.json`` lists every attribute of every object, which takes a quarter of a second here; what
    watches the lab asks for it again and again, and only wants to know whether there is an answer.
    """
    lock = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, body = "200 OK", {}
        request = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")
        if request == ("POST", RELOAD_PATH):
            try:
                with lock:
                    body = asdict(load())
            except SeedUnreadable as error:
                status, body = "500 Internal Server Error", {"message": str(error)}
        elif request != ("GET", READY_PATH):
            return application(environ, start_response)
        content = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    return answer


def _buckets() -> tuple[str, ...]:
    """The buckets of the policy file that the environment names, else of the default policy."""
    path = os.environ.get("AIND_PIPELINES_CONFIG")
    return load_policy(Path(path)).s3.buckets if path and Path(path).is_file() else S3Policy().buckets


def serve(host: str, port: int, seed_dir: Path) -> None:
    """Load the seed, open the port, answer until SIGTERM or SIGINT.

    Raises:
        OSError: The port cannot be had.
        SeedUnreadable: The seed cannot be loaded.
        SettingsError: The policy file cannot be used.
    """
    folder = seed_dir / "aws"
    buckets = _buckets()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))  # a taken port shows here; nobody can connect before listen()
        load_seed(folder, buckets)
        application = _with_lab_routes(
            DomainDispatcherApplication(create_backend_app), lambda: load_seed(folder, buckets)
        )
        server = make_server(host, port, application, threaded=True, request_handler=_Handler, fd=listener.fileno())
        vars(server)["daemon_threads"] = True  # an idle connection must not hold up the end

        def stop(*_: object) -> None:
            threading.Thread(target=server.shutdown, daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        listener.listen(128)
        try:
            server.serve_forever(poll_interval=0.1)
        finally:
            server.server_close()


def main(arguments: list[str] | None = None) -> int:
    """Run the service; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m aind_pipelines.lab.aws", description="The lab's AWS services")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=Path, required=True, help="the lab's seed folder")
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            serve(options.host, options.port, options.seed)
        except OSError as error:
            sys.stderr.write(f"aws: port {options.port} of {options.host} cannot be opened: {error.strerror}\n")
            return 1
        except (SeedUnreadable, SettingsError) as error:
            sys.stderr.write(f"aws: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
