"""What Code Ocean knows: data assets, the capsules people name, the computations that made results.

Shapes are those of Code Ocean's API v1 (times in seconds).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aind_pipelines.lab.home import CAPSULE_ID
from aind_pipelines.lab.seed import documented
from aind_pipelines.lab.seed.model import NOW, Asset, Institute
from aind_pipelines.lab.seed.vocabulary import CODE_OCEAN_BUCKET

OWNER = "0a6b7c1e-2f1d-4d0e-9c53-7f0f4f2b8a11"
"""Id of the service account that registers assets."""


def fill(institute: Institute) -> None:
    """Describe every asset, and what made the derived ones."""
    assets = list(institute.assets.values())
    institute.code_ocean = {
        "data_assets": [data_asset(institute, asset) for asset in assets],
        "capsules": [
            capsule(CAPSULE_ID, "Session explorer"),
            capsule(documented.TRIGGER_CAPSULE, "Spike sorting trigger"),
            capsule(documented.SORTING_PIPELINE, "Spike sorting pipeline"),
        ],
        "computations": [_computation(institute, asset) for asset in assets if asset.computation_id],
    }


def data_asset(institute: Institute, asset: Asset) -> dict[str, Any]:
    """A data asset as ``GET data_assets/{id}`` gives it."""
    files = institute.files_of(asset)
    internal = asset.bucket == CODE_OCEAN_BUCKET
    created = int(asset.created.timestamp())
    level = "raw data" if asset.is_raw else "derived data"
    described: dict[str, Any] = {
        "id": asset.code_ocean_id,
        "created": created,
        "name": asset.name,
        "mount": asset.name,
        "last_used": created + 3600,
        "owner": OWNER,
        "state": "ready",
        "type": "dataset" if asset.is_raw else "result",
        "files": len(files),
        "size": sum(len(body) for body in files.values()),
        "description": "",
        "tags": [
            asset.platform.abbreviation,
            "raw" if asset.is_raw else "derived",
            *([asset.process.label] if asset.process else []),
            asset.subject.id,
        ],
        "custom_metadata": {
            "data level": level,
            "experiment type": asset.platform.abbreviation,
            "modality": asset.platform.modalities[0],
            "subject id": asset.subject.id,
        },
        "source_bucket": {
            "origin": "aws",
            "bucket": asset.bucket,
            "prefix": asset.prefix,
            "external": not internal,
        },
    }
    if asset.computation_id is not None:
        described["provenance"] = {
            "commit": asset.computation_id.replace("-", "")[:32] + "0" * 8,
            "run_script": "code/run",
            "docker_image": "registry.codeocean.example/published/pipeline",
            "capsule": documented.SORTING_PIPELINE,
            "data_assets": [institute.assets[source].code_ocean_id for source in asset.sources],
            "computation": asset.computation_id,
        }
    return described


def capsule(capsule_id: str, name: str) -> dict[str, Any]:
    """A capsule or pipeline as ``GET capsules/{id}`` gives it."""
    created = int((NOW - timedelta(days=1500)).timestamp())
    return {
        "id": capsule_id,
        "created": created,
        "name": name,
        "status": "non_release",
        "owner": OWNER,
        "slug": str(int(capsule_id[:8], 16) % 10_000_000).zfill(7),
        "description": "",
        "tags": [],
        "versions": [],
    }


def _computation(institute: Institute, asset: Asset) -> dict[str, Any]:
    assert asset.processed is not None
    return {
        "id": asset.computation_id,
        "created": int((asset.processed - timedelta(minutes=100)).timestamp()),
        "name": f"Run of {asset.process.label if asset.process else 'pipeline'}",
        "owner": OWNER,
        "run_time": 6000,
        "state": "completed",
        "end_status": "succeeded",
        "exit_code": 0,
        "has_results": True,
        "data_assets": [{"id": institute.assets[source].code_ocean_id, "mount": source} for source in asset.sources],
        "parameters": [],
        "processes": [],
    }
