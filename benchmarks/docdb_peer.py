"""What an analyst does with the published client: read all of DocDB, flatten it, write it to a table by 1,000.

Runs in the peer's own environment, with the arguments: gateway host, table, ``flat`` (`pandas.json_normalize`, lists
as JSON text) or ``top`` (the records' own keys, what is below them as JSON text).
"""

import json
import sys

import pandas as pd
from aind_data_access_api.document_db import MetadataDbClient
from aind_data_access_api.rds_tables import Client, RDSCredentials

CHUNK = 1000
LONGEST_NAME = 63

host, table, shape = sys.argv[1:]
records = MetadataDbClient(host=host).retrieve_docdb_records()
frame = pd.json_normalize(records) if shape == "flat" else pd.DataFrame(records)
for column in frame.columns:
    if frame[column].map(lambda value: isinstance(value, list | dict)).any():
        frame[column] = frame[column].map(lambda value: json.dumps(value) if isinstance(value, list | dict) else value)
# Postgres cuts longer names, and psycopg2 takes these characters for its own.
names = [name.translate(str.maketrans("%()", "___")) for name in frame.columns]
frame.columns = [
    name if len(name.encode()) <= LONGEST_NAME else f"{name[-50:]}_{place}" for place, name in enumerate(names)
]
client = Client(credentials=RDSCredentials())
client.overwrite_table_with_df(frame[:CHUNK], table)
for start in range(CHUNK, len(frame), CHUNK):
    client.append_df_to_table(frame[start : start + CHUNK], table)
