"""The direct-connection block of the published guide runs as it is printed there, with its import line changed."""

from typing import Any

import pytest
from pymongo import MongoClient

from aind_pipelines_tests.clients.servers import AwsServer, Bastion, DocDBServer

BLOCK = """
from aind_pipelines.clients.docdb import DocumentDbSSHClient, DocumentDbSSHCredentials

# Method 1) if credentials are set in environment
credentials = DocumentDbSSHCredentials()

# Method 2) if you have permissions to AWS Secrets Manager
# Each secret must contain corresponding "host", "username", and "password"
credentials = DocumentDbSSHCredentials.from_secrets_manager(
   doc_db_secret_name="/doc/db/secret/name", ssh_secret_name="/ssh/tunnel/secret/name"
)

with DocumentDbSSHClient(credentials=credentials) as doc_db_client:
   # To get a list of filtered records:
   filter = {"subject.subject_id": "731015"}
   projection = {
      "name": 1, "created": 1, "location": 1, "subject.subject_id": 1, "subject.date_of_birth": 1,
   }
   count = doc_db_client.collection.count_documents(filter)
   response = list(doc_db_client.collection.find(filter=filter, projection=projection))
"""
FIRST, SECOND = BLOCK.split("# Method 2)")


@pytest.mark.parametrize("second_method", [False, True])
def test_both_methods_count_and_find(
    docdb: DocDBServer, bastion: Bastion, mongo: MongoClient[dict[str, Any]], aws_environment: AwsServer,
    monkeypatch: pytest.MonkeyPatch, second_method: bool,
) -> None:  # fmt: skip
    subject = {"subject_id": "731015", "date_of_birth": "2024-02-02", "sex": "Male"}
    wanted = {"_id": "a", "name": "n", "created": "2024-05-05", "location": "s3://b/n"}
    mongo.metadata_index.data_assets.insert_many(
        [{**wanted, "subject": subject, "rig": {"big": 1}}, {"_id": "b", "subject": {"subject_id": "775745"}}]
    )
    environment = {
        "HOST": "127.0.0.1", "PORT": str(docdb.port), "USERNAME": docdb.username, "PASSWORD": docdb.password,
        "SSH_HOST": "127.0.0.1", "SSH_PORT": str(bastion.port), "SSH_USERNAME": bastion.username,
        "SSH_PASSWORD": bastion.password,
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(f"DOC_DB_{name}", value)
    if second_method:
        login = {"host": "127.0.0.1", "port": docdb.port, "username": docdb.username, "password": docdb.password}
        aws_environment.secret("/doc/db/secret/name", login)
        login = {"host": "127.0.0.1", "port": bastion.port, "username": bastion.username, "password": bastion.password}
        aws_environment.secret("/ssh/tunnel/secret/name", login)
        code = BLOCK
    else:
        code = FIRST + SECOND[SECOND.index("with Doc") :]
    names: dict[str, Any] = {}
    exec(compile(code, "guide", "exec"), names)
    assert names["count"] == 1
    assert names["response"] == [{**wanted, "subject": {"subject_id": "731015", "date_of_birth": "2024-02-02"}}]
