"""Depositing, ours beside the published neurobank command: many small files, and one large one beside a bare copy.

Both commands move files of 4 KiB into an archive of their own, with the same registry process, whose password hasher
costs next to nothing. Ours makes everything durable, the peer nothing. Afterwards every file is read back and every
row of the registry compared. The large file is deposited as a copy, beside a copy by sendfile and fsync that digests
nothing, and reported as a move too, beside the same with its source removed, which costs a disk that discards seconds.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import CLI, ROOT, child_environment, timed
from benchmarks.registry import PASSWORD, USER, registry
from benchmarks.rows import Row, at_least, at_most, not_measured

PEER = ROOT / ".peers" / "nbank" / "bin" / "nbank"
ROUNDS = 5
OPTIONS = {"copy": ("--copy",), "move": ()}
_SIZE = 4096
_DTYPE = "bench"
_FEWER = 5  # how many times fewer files in the smaller runs
_DEAR = 10  # files where each write costs a password
_COPY = """
import os, sys
source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
while os.sendfile(target, source, None, 1 << 30):
    pass
os.fsync(target)
os.close(target)
if "move" in sys.argv:
    os.close(source)
    os.unlink(sys.argv[1])
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One process: CPU and wall seconds, and peak memory in MB (10^6 bytes)."""

    cpu: float
    wall: float
    memory: float


def measure(files: int = 10_000, gigabytes: float = 4.0) -> list[Row]:
    """Deposits in turn, five of each.

    Args:
        files: How many small files at once; a fifth of them in a further run, and ten times as many for the memory.
        gigabytes: The large file's size in GiB.

    Raises:
        RuntimeError: A command failed, or an archive or the registry holds something else than was deposited.
    """
    scratch = Path(tempfile.mkdtemp(prefix="aind-bench-deposit-"))
    try:
        bulk, plain, dear, large = (scratch / name for name in ("bulk", "plain", "dear", "large"))
        for folder in (bulk, plain, dear, large):
            folder.mkdir()
        rows: list[Row] = []
        with registry(bulk) as url:
            bench = Bench(bulk, url)
            ours, peer = bench.rounds(files)
            rows += _compared(f"deposit: {files} x 4 KiB", ours, peer, 20)
            fewer = max(1, files // _FEWER)
            rows += _compared(f"deposit: {fewer} x 4 KiB", *bench.rounds(fewer), 0)
            many = bench.ours(10 * files)
            rows.append(at_most(f"deposit: {10 * files} x 4 KiB, memory", "MB", [many.memory], 200))
        with registry(plain, plain=True) as url:
            rows += _compared(f"deposit: {files} x 4 KiB, plain registry", *Bench(plain, url).rounds(files), 1)
        with registry(dear, cheap_passwords=False) as url:
            ours, peer = Bench(dear, url).rounds(_DEAR)
            rows += _compared(f"deposit: {_DEAR} x 4 KiB, Django's own password hasher", ours, peer, 0)
        with registry(large) as url:
            rows += _large(Bench(large, url), large, int(gigabytes * (1 << 30)))
        return rows
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _compared(name: str, ours: list[Run], peer: list[Run], reach: float) -> list[Row]:
    """Time of the peer over ours, pair by pair; not reached when the peer did not run."""
    rows = [
        at_least(f"{name}, {what} of {who}", unit, [getattr(run, field) for run in runs], 0)
        for who, runs in (("ours", ours), ("nbank", peer))
        for what, unit, field in (("time", "s", "wall"), ("CPU", "s", "cpu"), ("memory", "MB", "memory"))
        if runs
    ]
    title = f"{name}, time of nbank over ours"
    if not peer:
        return [not_measured(title, "x", reach, "nbank is not installed: make .peers/nbank/.installed"), *rows]
    ratios = [theirs.wall / our.wall for theirs, our in zip(peer, ours, strict=True)]
    memory = at_most(f"{name}, memory", "MB", [run.memory for run in ours], 200)
    return [at_least(title, "x", ratios, reach), memory, *rows]


def _large(bench: Bench, folder: Path, size: int) -> list[Row]:
    floors: dict[str, list[float]] = {"copy": [], "move": []}
    ours: dict[str, list[Run]] = {"copy": [], "move": []}
    for number in range(ROUNDS):
        for way in floors:
            source, target = folder / f"{way}{number}.dat", folder / "target"
            _write_large(source, size, f"{way} {number}")
            floors[way].append(bench.bare_copy(source, target, way))
            target.rename(source) if way == "move" else target.unlink()
            os.sync()
            ours[way].append(bench.deposit_ours(bench.archives["ours"], [source], *OPTIONS[way]))
            [stored] = (bench.archives["ours"] / "resources").rglob(source.name)
            if stored.stat().st_size != size or _sha1(stored) != bench.registered("ours")[source.stem]:
                raise RuntimeError(f"{stored} is not what was deposited")
            stored.unlink()
            source.unlink(missing_ok=True)
            os.sync()
    name = f"deposit: {size / (1 << 30):g} GiB"
    ratios = {way: [run.wall / floor for run, floor in zip(ours[way], floors[way], strict=True)] for way in floors}
    rows = [
        at_most(f"{name}, time over that of sendfile and fsync", "x", ratios["copy"], 1.6),
        at_most(f"{name}, memory", "MB", [run.memory for run in ours["copy"]], 200),
        at_least(f"{name} moved, time over that of sendfile, fsync and unlink", "x", ratios["move"], 0),
    ]
    for way, runs in ours.items():
        rows += [
            at_least(f"{name}, {way}: time of ours", "s", [run.wall for run in runs], 0),
            at_least(f"{name}, {way}: CPU of ours", "s", [run.cpu for run in runs], 0),
            at_least(f"{name}, {way}: time of the bare {way}", "s", floors[way], 0),
        ]
    return rows


class Bench:
    """The two archives of one registry, and the runs into them."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._run = 0
        self._expected: dict[str, dict[str, str]] = {"ours": {}, "nbank": {}}
        self.archives = {"ours": folder / "ours", "nbank": folder / "nbank"}
        self.environment = child_environment(
            {
                "HOME": str(folder),
                "NBANK_REGISTRY": url,
                "NBANK_USERNAME": USER,
                "NBANK_PASSWORD": PASSWORD,
            }
        )
        timed([*CLI, "archive", "dtype", "add", _DTYPE, "application/octet-stream"], self.environment)
        timed([*CLI, "archive", "init", str(self.archives["ours"])], self.environment)
        if PEER.exists():
            timed([*self._peer_command("init"), str(self.archives["nbank"])], self.environment)

    def _peer_command(self, *words: str) -> list[str]:
        return [str(PEER), "-r", self._url, "-a", f"{USER}:{PASSWORD}", *words]

    def rounds(self, files: int) -> tuple[list[Run], list[Run]]:
        """Ours and the peer's in turn; then everything is read back."""
        ours, peer = [], []
        for _ in range(ROUNDS):
            ours.append(self.ours(files))
            if PEER.exists():
                sources = self._made("nbank", files)
                first, *others = map(str, sources)
                command = [
                    *self._peer_command("deposit"),
                    "-d",
                    _DTYPE,
                    "-j",
                    "-@",
                    str(self.archives["nbank"]),
                    first,
                ]
                peer.append(Run(*timed(command, self.environment, "\n".join(others).encode())))
                print(f"nbank, {files} files: {peer[-1]}", file=sys.stderr, flush=True)
        self._compare("ours")
        if PEER.exists():
            self._compare("nbank")
        return ours, peer

    def ours(self, files: int) -> Run:
        """One run of ours, with new files."""
        return self.deposit_ours(self.archives["ours"], self._made("ours", files))

    def deposit_ours(self, archive: Path, sources: list[Path], *options: str) -> Run:
        """One run of our command; it moves `sources`, unless `options` say otherwise."""
        command = [*CLI, "archive", "deposit", str(archive), "-d", _DTYPE, "-j", "-@", *options]
        run = Run(*timed(command, self.environment, "\n".join(map(str, sources)).encode()))
        print(
            f"ours, {len(sources)} files: {run}", file=sys.stderr, flush=True
        )  # the whole takes the peer's long time
        return run

    def bare_copy(self, source: Path, target: Path, way: str) -> float:
        """Seconds of a process that copies, or moves, and does nothing else."""
        return timed([sys.executable, "-c", _COPY, str(source), str(target), way], self.environment)[1]

    def _made(self, who: str, files: int) -> list[Path]:
        """New files, written to the disk before anything is measured.

        Their names begin at random, as assigned identifiers do: both keep them in folders by the first two characters,
        and the peer lists such a folder for each file.
        """
        self._run += 1
        folder = self._folder / f"sources-{self._run}"
        folder.mkdir()
        chance = random.Random(f"{who} {self._run}")
        paths = []
        for number in range(files):
            path = folder / f"{chance.randbytes(4).hex()}-{who}-{self._run}-{number:06d}.dat"
            content = chance.randbytes(_SIZE)
            path.write_bytes(content)
            self._expected[who][path.stem] = hashlib.sha1(content).hexdigest()
            paths.append(path)
        os.sync()
        return paths

    def _compare(self, who: str) -> None:
        """Every file of an archive and every row of the registry must be what was deposited."""
        resources = self.archives[who] / "resources"
        stored = {path.stem: _sha1(path) for path in resources.rglob("*.dat")}
        for place, found in (("archive", stored), ("registry", self.registered(who))):
            wanted = self._expected[who]
            if found != wanted:
                differing = sorted(id_ for id_ in {*found, *wanted} if found.get(id_) != wanted.get(id_))
                raise RuntimeError(
                    f"{who}: the {place} has {len(found)} of {len(wanted)} files; not as deposited: {differing[:3]}"
                )

    def registered(self, who: str) -> dict[str, str]:
        """Each identifier's sha1 in one archive, as the registry has it."""
        from aind_pipelines.clients.registry import RegistryClient

        with RegistryClient(self._url) as client:
            name = next(entry.name for entry in client.archives() if entry.root == str(self.archives[who].resolve()))
            return {resource.id: str(resource.sha1) for resource in client.iter_archive_resources(name)}


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _write_large(path: Path, size: int, seed: str) -> None:
    block = bytearray(random.Random(seed).randbytes(1 << 24))
    with path.open("wb") as file:
        written = 0
        while written < size:
            block[:8] = written.to_bytes(8, "big")
            written += file.write(block[: size - written])
    os.sync()
