"""What requests that create or change something make of it. Pure: bodies in, items out."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from aind_pipelines.lab.code_ocean.search import Item

OWNER = "lab-user"
_UPDATABLE = ("name", "description", "tags", "mount", "custom_metadata")


class BadRequest(Exception):
    """The body cannot be used; the message is what the caller is told."""


def _given(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if not isinstance(value, kind):
        raise BadRequest(f"{name} is required and must be a {kind.__name__}")
    return value


def new_data_asset(
    body: Mapping[str, Any],
    data_assets: Mapping[str, Item],
    computations: Mapping[str, Item],
    now: float,
    step_seconds: float,
) -> Item:
    """A data asset as asked for by ``POST data_assets``: a draft that becomes ready after `step_seconds`.

    Raises:
        BadRequest: Name, tags or mount is missing, or the source is none that exists.
    """
    created = int(now)
    asset: Item = {
        "id": str(uuid.uuid4()),
        "created": created,
        "name": _given(body, "name", str),
        "mount": _given(body, "mount", str),
        "tags": _given(body, "tags", list),
        "last_used": 0,
        "owner": OWNER,
        "state": "draft",
        "type": "dataset",
        "description": body.get("description") or "",
        "custom_metadata": body.get("custom_metadata") or {},
        "_steps": [[now + step_seconds, {"state": "ready", "files": 0, "size": 0}]],
    }
    source = body.get("source") or {}
    if not isinstance(source, dict):
        raise BadRequest("source must be an object")
    if aws := source.get("aws"):
        asset["source_bucket"] = {
            "origin": "aws",
            "bucket": _given(aws, "bucket", str),
            "prefix": aws.get("prefix") or "",
            "external": bool(aws.get("keep_on_external_storage")),
        }
    elif gcp := source.get("gcp"):
        asset["source_bucket"] = {
            "origin": "gcp",
            "bucket": _given(gcp, "bucket", str),
            "prefix": gcp.get("prefix") or "",
            "external": False,
        }
    elif ran := source.get("computation") or source.get("cloud_workstation"):
        computation = computations.get(str(ran.get("id")))
        if computation is None:
            raise BadRequest(f"computation {ran.get('id')} not found")
        asset["type"] = "result"
        inputs = [each["id"] for each in computation.get("data_assets") or []]
        asset["provenance"] = {"computation": computation["id"], "data_assets": inputs}
        if capsule := computation.get("capsule_id") or computation.get("pipeline_id"):
            asset["provenance"]["capsule"] = capsule
    elif ids := body.get("data_asset_ids"):
        missing = [each for each in ids if each not in data_assets]
        if missing:
            raise BadRequest(f"data assets not found: {', '.join(map(str, missing))}")
        asset["type"] = "combined"
        asset["contained_data_assets"] = [
            {"id": each, "mount": data_assets[each].get("mount"), "size": data_assets[each].get("size")}
            for each in ids
        ]
    else:
        raise BadRequest("a source or data_asset_ids is required")
    if info := body.get("results_info"):
        asset["type"] = "result"
        known = {"commit": info.get("commit"), "run_script": info.get("run_script")}
        known |= {"capsule": info.get("capsule_id") or info.get("pipeline_id"), "data_assets": info.get("data_assets")}
        asset["provenance"] = {name: value for name, value in known.items() if value is not None}
    if target := (body.get("target") or {}).get("aws"):
        prefix = target.get("prefix") or ""
        asset["source_bucket"] = {
            "origin": "aws",
            "bucket": _given(target, "bucket", str),
            "prefix": prefix,
            "external": True,
        }
    return asset


def updated_data_asset(asset: Item, body: Mapping[str, Any]) -> Item:
    """The asset with the fields that ``PUT data_assets/{id}`` gives; null leaves a field as it is."""
    if "name" in body and body["name"] is not None and not (isinstance(body["name"], str) and body["name"]):
        raise BadRequest("name must be a string")
    return asset | {name: body[name] for name in _UPDATABLE if body.get(name) is not None}


def new_computation(
    body: Mapping[str, Any],
    runnable: Mapping[str, Mapping[str, Item]],
    data_assets: Mapping[str, Item],
    now: float,
    step_seconds: float,
) -> Item:
    """A computation as asked for by ``POST computations``: initializing, then running, then completed.

    Args:
        body: The SDK's ``RunParams``.
        runnable: ``capsules`` and ``pipelines`` by id.
        data_assets: By id.
        now: Seconds since the epoch.
        step_seconds: How long it initialises, and how long it runs.

    Raises:
        BadRequest: Not exactly one of capsule_id and pipeline_id, or something that does not exist.
    """
    named = [(kind, body[f"{kind}_id"]) for kind in ("capsule", "pipeline") if body.get(f"{kind}_id")]
    if len(named) != 1:
        raise BadRequest("exactly one of capsule_id and pipeline_id is required")
    kind, key = named[0]
    if not any(key in runnable[each] for each in ("capsules", "pipelines")):
        raise BadRequest(f"{kind} {key} not found")
    inputs = body.get("data_assets") or []
    missing = [str(each.get("id")) for each in inputs if each.get("id") not in data_assets]
    if missing:
        raise BadRequest(f"data assets not found: {', '.join(missing)}")
    ordered = [{"name": f"parameter_{n}", "value": value} for n, value in enumerate(body.get("parameters") or [], 1)]
    named_parameters = [
        {"name": each.get("param_name"), "param_name": each.get("param_name"), "value": each.get("value")}
        for each in body.get("named_parameters") or []
    ]
    done = {
        "state": "completed",
        "end_status": "succeeded",
        "exit_code": 0,
        "has_results": True,
        "run_time": max(1, round(step_seconds)),
    }
    return {
        "id": str(uuid.uuid4()),
        "created": int(now),
        "name": f"Run {int(now)}",
        "owner": OWNER,
        "run_time": 0,
        "state": "initializing",
        "cloud_workstation": False,
        "data_assets": [{"id": each["id"], "mount": each.get("mount")} for each in inputs],
        "parameters": ordered + named_parameters,
        "processes": body.get("processes") or [],
        "has_results": False,
        f"{kind}_id": key,
        "_steps": [[now + step_seconds, {"state": "running"}], [now + 2 * step_seconds, done]],
    }


def attachments(wishes: Any, data_assets: Mapping[str, Item]) -> list[Item]:
    """What ``POST capsules/{id}/data_assets`` answers for a list of ``{"id", "mount"}``.

    Raises:
        BadRequest: No list, or an asset that does not exist or is not ready.
    """
    if not isinstance(wishes, list) or not all(isinstance(each, dict) for each in wishes):
        raise BadRequest("the body must be a list of objects with an id")
    results = []
    for wish in wishes:
        asset = data_assets.get(str(wish.get("id")))
        if asset is None:
            raise BadRequest(f"data asset {wish.get('id')} not found")
        results.append(
            {
                "id": asset["id"],
                "mount_state": "mounted",
                "job_id": str(uuid.uuid4()),
                "external": bool((asset.get("source_bucket") or {}).get("external")),
                "ready": asset.get("state") == "ready",
                "mount": wish.get("mount") or asset.get("mount"),
            }
        )
    return results
