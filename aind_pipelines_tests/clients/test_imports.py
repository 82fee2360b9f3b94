"""What the code location may import: the clients, without the libraries they use only when they are used."""

import subprocess
import sys


def test_importing_the_clients_loads_no_heavy_library() -> None:
    code = (
        "import sys, aind_pipelines.clients.docdb, aind_pipelines.clients.rds, aind_pipelines.clients.secrets, "
        "aind_pipelines.clients.ssh\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'boto3', 'botocore', 'pymongo', 'paramiko', 'sshtunnel', 'pandas', 'requests', 'psycopg', 'dagster'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
