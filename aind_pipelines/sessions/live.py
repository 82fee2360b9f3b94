"""The live systems behind `Session`: Code Ocean, DocDB and S3, asked for one session or subject at a time.

For many sessions use the tables that the pipeline resolves in bulk. Answers are never cached here; clients are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from aind_pipelines.clients.errors import ServiceError
from aind_pipelines.clients.s3 import list_children, parse_uri, prefix_exists
from aind_pipelines.records.names import parse_session_id
from aind_pipelines.sessions.rules import Folder
from aind_pipelines.settings import Settings, SettingsError, load_policy, load_settings

if TYPE_CHECKING:
    from codeocean import CodeOcean
    from codeocean.data_asset import DataAsset
    from types_boto3_s3 import S3Client
    from upath import UPath

DOCDB_GATEWAY = "api.allenneuraldynamics.org"
"""The institute's public gateway, which reads need no login for: used when DOC_DB_API_HOST is not set."""

_SEARCHABLE = 20
"""Code Ocean finds nothing for longer words: they are cut, and what it finds is filtered here."""


def get_codeocean_client() -> CodeOcean:
    """The official SDK's client for the configured deployment (``CODE_OCEAN_DOMAIN``, ``CODE_OCEAN_API_TOKEN``).

    Raises:
        SettingsError: No token is configured.
    """
    settings = load_settings()
    if settings.code_ocean_api_token is None:
        raise SettingsError(
            "Code Ocean is not configured: set CODE_OCEAN_API_TOKEN (scope: Datasets, read), or any variable whose "
            "value starts with COP_."
        )
    return _code_ocean(settings.code_ocean_domain, settings.code_ocean_api_token.get_secret_value())


@lru_cache(maxsize=4)
def _code_ocean(domain: str, token: str) -> CodeOcean:
    from aind_pipelines.clients.code_ocean import get_client

    return get_client(domain=domain, token=token)


def find_data_assets(query: str) -> Iterator[dict[str, Any]]:
    """Data assets that a search finds, as Code Ocean describes them, oldest first.

    Raises:
        SettingsError: Code Ocean is not configured.
        ServiceError: It cannot be reached or refuses.
    """
    from aind_pipelines.clients.code_ocean import iter_data_assets

    return iter_data_assets(get_codeocean_client(), parameters={"query": query})


def find_data_assets_named(start: str) -> Iterator[dict[str, Any]]:
    """Data assets whose name starts with `start`; raises as `find_data_assets`."""
    found = find_data_assets(f"name:{start[:_SEARCHABLE]}")
    return (asset for asset in found if str(asset.get("name", "")).startswith(start))


def get_data_asset(identifier: str) -> DataAsset | None:
    """One data asset, or None when Code Ocean does not have it.

    Raises:
        SettingsError: Code Ocean is not configured.
        ServiceError: It cannot be reached or refuses.
    """
    from codeocean.error import Error

    from aind_pipelines.clients.code_ocean import mapped_errors

    client = get_codeocean_client()
    with mapped_errors():
        try:
            return client.data_assets.get_data_asset(identifier)
        except Error as error:
            if error.status_code == 404:
                return None
            raise


def find_records(query: Mapping[str, Any], projection: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Metadata records of every configured generation that match a MongoDB filter, whole or as projected.

    Those of the collection named by ``DOC_DB_DATABASE`` come first.

    Raises:
        ServiceError: DocDB cannot be reached or refuses: never an empty answer.
    """
    from aind_pipelines.clients.docdb import MetadataDbClient

    settings = load_settings()
    sources = sorted(load_policy().docdb.sources, key=lambda source: source.database != settings.doc_db_database)
    records = []
    for source in sources:
        with MetadataDbClient(
            host=settings.doc_db_api_host or DOCDB_GATEWAY, database=source.database, collection=source.collection
        ) as client:
            records += client.retrieve_docdb_records(filter_query=query, projection=projection)
    return records


def s3_client() -> S3Client:
    """An S3 client by boto3's own chain of credentials."""
    return _s3(load_settings())


@lru_cache(maxsize=4)
def _s3(settings: Settings) -> S3Client:
    from aind_pipelines.clients.s3 import client

    return client(settings)


def policy_buckets() -> tuple[str, ...]:
    """The buckets that hold assets, in the order in which they are searched."""
    return load_policy().s3.buckets


def folders_at(locations: Iterable[str]) -> list[Folder]:
    """The top-level folders in which these S3 locations lie, as far as they exist.

    Raises:
        ServiceError: S3 cannot be reached or refuses.
    """
    places: dict[tuple[str, str], None] = {}
    for location in locations:
        try:
            bucket, prefix = parse_uri(location)
        except ValueError:  # not S3: the rules judge it
            continue
        if prefix:
            places[bucket, prefix.split("/")[0]] = None
    return [folder for bucket, prefix in places if (folder := _folder(bucket, prefix)) is not None]


def folders_named(names: Sequence[str], buckets: Sequence[str]) -> list[Folder]:
    """The first top-level folder with one of these names, bucket by bucket; [] when there is none.

    Raises:
        ServiceError: S3 cannot be reached or refuses.
    """
    for bucket in buckets:
        for name in dict.fromkeys(names):
            if (folder := _folder(bucket, name)) is not None:
                return [folder]
    return []


def _folder(bucket: str, prefix: str) -> Folder | None:
    client = s3_client()
    if not prefix_exists(client, bucket, prefix):
        return None
    session = parse_session_id(prefix)
    return Folder(bucket, prefix, tuple(list_children(client, bucket, prefix)), session.id if session else None)


def read_json(file: UPath) -> Any:
    """A JSON file's content.

    Raises:
        ServiceError: The file cannot be read, or holds no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ServiceError("S3", f"{file} cannot be read as JSON: {error}.") from error
