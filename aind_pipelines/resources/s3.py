"""S3: the buckets that hold raw and derived data."""

from typing import TYPE_CHECKING

from aind_pipelines.resources.base import Resource
from aind_pipelines.settings import load_settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class S3Resource(Resource):
    """Builds a boto3 client by boto3's own chain of credentials."""

    def client(self) -> "S3Client":
        """A client that may be shared by threads."""
        from aind_pipelines.clients import s3

        return s3.client(load_settings())
