"""DocDB, the document database of metadata records: through its REST gateway, or directly through an SSH tunnel."""

from aind_pipelines.clients.docdb.credentials import DocumentDbSSHCredentials
from aind_pipelines.clients.docdb.direct import DocumentDbSSHClient
from aind_pipelines.clients.docdb.errors import BulkWriteFailed, RecordTooLarge
from aind_pipelines.clients.docdb.helpers import (
    RecordNotFound,
    build_docdb_location_to_id_map,
    does_metadata_record_exist_in_docdb,
    fetch_records_by_filter_list,
    get_field_by_id,
    get_field_by_name,
    get_id_from_name,
    get_name_from_id,
    get_projection_by_id,
    get_projection_by_name,
    get_record_by_id,
    get_record_by_name,
    get_record_from_docdb,
    get_s3_bucket_and_prefix,
    get_s3_location,
    paginate_docdb,
)
from aind_pipelines.clients.docdb.helpers_quality import (
    get_quality_control_by_id,
    get_quality_control_by_name,
    get_quality_control_by_names,
    get_quality_control_status_df,
    get_quality_control_value_df,
)
from aind_pipelines.clients.docdb.rest import AnalysisDbClient, MetadataDbClient, SchemaDbClient

__all__ = [
    "AnalysisDbClient",
    "BulkWriteFailed",
    "DocumentDbSSHClient",
    "DocumentDbSSHCredentials",
    "MetadataDbClient",
    "RecordNotFound",
    "RecordTooLarge",
    "SchemaDbClient",
    "build_docdb_location_to_id_map",
    "does_metadata_record_exist_in_docdb",
    "fetch_records_by_filter_list",
    "get_field_by_id",
    "get_field_by_name",
    "get_id_from_name",
    "get_name_from_id",
    "get_projection_by_id",
    "get_projection_by_name",
    "get_quality_control_by_id",
    "get_quality_control_by_name",
    "get_quality_control_by_names",
    "get_quality_control_status_df",
    "get_quality_control_value_df",
    "get_record_by_id",
    "get_record_by_name",
    "get_record_from_docdb",
    "get_s3_bucket_and_prefix",
    "get_s3_location",
    "paginate_docdb",
]
