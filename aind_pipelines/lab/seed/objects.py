"""S3 objects: for each asset its metadata files and small files of the kinds that its modalities leave.

Contents are real in kind (JSON is JSON, CSV is CSV) and small; they depend on the asset alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aind_pipelines.lab.seed.model import V1_DATABASE, V2_DATABASE, Asset, Institute

METADATA_FILE = "metadata.nd.json"


def json_bytes(document: Any) -> bytes:
    """JSON as the institute's indexer writes it to S3; the MD5 of these bytes is the object's ETag."""
    return json.dumps(document, indent=3, ensure_ascii=False, sort_keys=True).encode()


def fill(institute: Institute) -> None:
    """Give every asset its files."""
    for asset in institute.assets.values():
        for key, body in data_files(asset):
            put(institute, asset.bucket, asset.prefix, key, body)
    for database in (V1_DATABASE, V2_DATABASE):  # the newer schema's files are the ones that stay
        for record in institute.records[database]:
            put_metadata(institute, record)


def put(institute: Institute, bucket: str, prefix: str, key: str, body: bytes) -> None:
    """Keep one object, replacing what was there."""
    institute.objects.setdefault(bucket, {}).setdefault(prefix, {})[key] = body


def put_metadata(institute: Institute, record: dict[str, Any]) -> None:
    """Write a record to its location, whole and as the core files that people read first."""
    bucket, _, prefix = str(record["location"]).removeprefix("s3://").partition("/")
    put(institute, bucket, prefix, METADATA_FILE, json_bytes(record))
    derived = record["data_description"]["data_level"] == "derived"
    for name in ("data_description", "processing") if derived else ("subject", "data_description"):
        put(institute, bucket, prefix, f"{name}.json", json_bytes(record[name]))


def data_files(asset: Asset) -> Iterator[tuple[str, bytes]]:
    """Keys below the asset's folder and their contents, metadata aside."""
    if asset.process is None:
        for abbreviation in asset.platform.modalities:
            yield from _RAW[abbreviation](asset)
    else:
        yield from _DERIVED.get(asset.process.label, _results)(asset)


def _noise(asset: Asset, name: str, size: int) -> bytes:
    return asset.rng(name).randbytes(size)


def _ephys(asset: Asset) -> Iterator[tuple[str, bytes]]:
    yield (
        "ecephys_clipped/settings.xml",
        b'<?xml version="1.0"?>\n<SETTINGS><INFO><VERSION>0.6.7</VERSION></INFO></SETTINGS>\n',
    )
    for probe in ("A", "B"):
        folder = f"ecephys_compressed/experiment1_Record Node 104#Neuropix-PXI-100.Probe{probe}-AP.zarr"
        yield f"{folder}/.zgroup", b'{"zarr_format": 2}\n'
        yield f"{folder}/traces_seg0/0.0", _noise(asset, f"probe{probe}", 3072)


def _behavior(asset: Asset) -> Iterator[tuple[str, bytes]]:
    numbers = asset.rng("trials")
    rows = [
        f"{trial},{trial * 7.5 + numbers.random():.3f},{choice},{numbers.randint(0, 1)}"
        for trial, choice in enumerate(numbers.choices(("left", "right", "ignore"), k=numbers.randint(60, 120)))
    ]
    yield "behavior/trials.csv", ("trial,go_cue_time_s,choice,rewarded\n" + "\n".join(rows) + "\n").encode()


def _videos(asset: Asset) -> Iterator[tuple[str, bytes]]:
    # Ephys rigs write an underscore where the others write a hyphen: readers meet both.
    folder = "behavior_videos" if "ecephys" in asset.platform.modalities else "behavior-videos"
    yield f"{folder}/face_camera.mp4", b"\x00\x00\x00\x18ftypmp42" + _noise(asset, "video", 2600)


def _planes(asset: Asset) -> Iterator[tuple[str, bytes]]:
    yield "pophys/movie.h5", b"\x89HDF\r\n\x1a\n" + _noise(asset, "movie", 3600)
    yield "pophys/sync.json", json_bytes({"frame_rate_hz": 10.7, "frames": asset.rng("frames").randint(20000, 40000)})


def _fibers(asset: Asset) -> Iterator[tuple[str, bytes]]:
    numbers = asset.rng("fibers")
    for channel in ("G", "R", "Iso"):
        rows = [f"{frame},{frame / 20:.2f},{numbers.gauss(1000, 12):.3f}" for frame in range(80)]
        yield f"fib/FIP_Data{channel}_0.csv", ("frame,time_s,fiber_0\n" + "\n".join(rows) + "\n").encode()


def _light_sheet(asset: Asset) -> Iterator[tuple[str, bytes]]:
    for channel in ("Ex_488_Em_525", "Ex_561_Em_593"):
        folder = f"SPIM/{channel}/tile_00.ome.zarr"
        yield f"{folder}/.zattrs", json_bytes({"multiscales": [{"version": "0.4", "datasets": [{"path": "0"}]}]})
        yield f"{folder}/0/0.0.0.0.0", _noise(asset, channel, 3072)


def _sorted(asset: Asset) -> Iterator[tuple[str, bytes]]:
    for probe in ("A", "B"):
        recording = f"experiment1_Record Node 104#Neuropix-PXI-100.Probe{probe}-AP_recording1"
        yield (
            f"spikesorted/{recording}/si_folder.json",
            json_bytes(
                {"class": "spikeinterface.core.numpyextractors.NumpySorting", "annotations": {"__sorting_info__": {}}}
            ),
        )
        yield (
            f"sorting_precurated/{recording}/spikes.npy",
            b"\x93NUMPY\x01\x00" + _noise(asset, f"sorted{probe}", 1500),
        )
    yield "visualization_output.json", json_bytes({"timeseries": f"https://figurl.example/f?label={asset.name}"})


def _nwb(asset: Asset) -> Iterator[tuple[str, bytes]]:
    yield f"{asset.session_id}.nwb", b"\x89HDF\r\n\x1a\n" + _noise(asset, "nwb", 2800)


def _results(asset: Asset) -> Iterator[tuple[str, bytes]]:
    label = asset.process.label if asset.process else "results"
    yield f"{label}/output.h5", b"\x89HDF\r\n\x1a\n" + _noise(asset, label, 2400)
    yield "output", b"finished\n"


_RAW = {
    "behavior": _behavior,
    "behavior-videos": _videos,
    "ecephys": _ephys,
    "fib": _fibers,
    "pophys": _planes,
    "SPIM": _light_sheet,
}
_DERIVED = {"sorted": _sorted, "nwb": _nwb}
