"""What can become a resource, and what is refused with a reason."""

import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aind_pipelines.archive.intake import (
    LocalDirectory,
    LocalFile,
    S3Prefix,
    SourceRefused,
    local_source,
    read_digests,
    read_member,
)
from aind_pipelines.clients.errors import ServiceUnavailable
from aind_pipelines_tests.counts import examples

pytest.importorskip("moto")


@pytest.fixture(scope="module")
def s3():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-west-2",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    yield client
    server.stop()


@pytest.fixture
def bucket(s3, request):
    name = f"bucket-{abs(hash(request.node.name))}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    return name


def tree(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "emptydir").mkdir()
    (root / "a.txt").write_bytes(b"first")
    (root / "sub" / "b.bin").write_bytes(b"second")
    (root / "sub" / "empty").write_bytes(b"")
    return root


GOLDEN = "184028ae14561a79106b25b57f0b659569e28d77"


def test_a_directory_gives_its_members_and_neurobanks_digest(tmp_path):
    source = local_source(tree(tmp_path / "d"))
    listing = source.scan()
    assert [(member.relpath, member.size) for member in listing.members] == [
        ("a.txt", 5), ("sub/b.bin", 6), ("sub/empty", 0),
    ]  # fmt: skip
    assert listing.empty_folders == ("emptydir",)
    assert read_digests(source).sha1 == GOLDEN


def test_the_same_tree_in_s3_has_the_same_digests(tmp_path, s3, bucket):
    for key, body in (
        ("asset/", b""), ("asset/a.txt", b"first"), ("asset/sub/b.bin", b"second"), ("asset/sub/empty", b""),
        ("asset/emptydir/", b""), ("asset10/other", b"x"),
    ):  # fmt: skip
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    source = S3Prefix(bucket, "asset", s3)
    assert read_digests(source) == read_digests(LocalDirectory(tree(tmp_path / "d")))
    assert source.uri == f"s3://{bucket}/asset"


@pytest.mark.slow
def test_many_objects_are_listed_beyond_one_page(s3, bucket):
    for number in range(1_005):
        s3.put_object(Bucket=bucket, Key=f"many/{number}", Body=b"%d" % number)
    assert len(S3Prefix(bucket, "many/", s3).scan().members) == 1_005


def test_an_object_that_changes_while_it_is_read_is_noticed(s3, bucket):
    s3.put_object(Bucket=bucket, Key="x/a", Body=b"before")
    source = S3Prefix(bucket, "x", s3)
    listing = source.scan()
    s3.put_object(Bucket=bucket, Key="x/a", Body=b"after!")
    with pytest.raises(SourceRefused) as raised:
        read_member(listing.members[0], source)
    assert raised.value.reason == "changed"
    assert source.scan().fingerprint != listing.fingerprint


@pytest.mark.parametrize("key", ["x/a//b", "x/../b", "x/./b"])
def test_keys_that_are_no_paths_are_refused(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    with pytest.raises(SourceRefused) as raised:
        S3Prefix(bucket, "x", s3).scan()
    assert raised.value.reason == "name"


def test_a_key_that_is_object_and_folder_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="x/a", Body=b"1")
    s3.put_object(Bucket=bucket, Key="x/a/b", Body=b"1")
    with pytest.raises(SourceRefused, match="both"):
        S3Prefix(bucket, "x", s3).scan()


@pytest.mark.parametrize("prefix", ["nothing", "has"])
def test_a_prefix_without_objects_does_not_exist(s3, bucket, prefix):
    s3.put_object(Bucket=bucket, Key="has-longer-name/a", Body=b"1")
    with pytest.raises(SourceRefused) as raised:
        S3Prefix(bucket, prefix, s3).scan()
    assert raised.value.reason == "missing"


def test_a_missing_bucket_is_a_missing_source_but_an_outage_is_an_outage(s3):
    with pytest.raises(SourceRefused, match="does not exist"):
        S3Prefix("no-such-bucket", "x", s3).scan()
    import boto3
    from botocore.config import Config

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{closed.getsockname()[1]}",
            region_name="us-west-2",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, connect_timeout=1),
        )
        with pytest.raises(ServiceUnavailable):
            S3Prefix("b", "x", down).scan()


def special(kind: str, path: Path) -> None:
    if kind == "symlink":
        path.symlink_to("/etc/hostname")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "folder link":
        path.symlink_to("/etc", target_is_directory=True)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's path is short
            try:
                made.bind(path.name)
            finally:
                os.chdir(here)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["symlink", "dangling", "folder link", "pipe", "socket"])
def test_links_and_special_files_are_refused_without_opening_them(tmp_path, kind):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "fine").write_text("1")
    special(kind, tmp_path / "d" / "odd")
    for source in (LocalDirectory(tmp_path / "d"), LocalFile(tmp_path / "d" / "odd")):
        with pytest.raises(SourceRefused, match="odd") as raised:
            source.scan()
        assert raised.value.reason == "special"


@pytest.mark.parametrize("name", [b"a\nb", b"a\xff", b"\x1b[31m"])
def test_names_that_hide_something_are_refused(tmp_path, name):
    (tmp_path / "d").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "d") + b"/" + name)).write_bytes(b"1")
    with pytest.raises(SourceRefused) as raised:
        LocalDirectory(tmp_path / "d").scan()
    assert raised.value.reason == "name"
    str(raised.value).encode()


def test_a_missing_source_says_so(tmp_path):
    with pytest.raises(SourceRefused, match="does not exist"):
        local_source(tmp_path / "none")


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"X" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def link_instead(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("change", [grow, rewrite, swap, link_instead])
def test_a_file_that_changes_after_the_scan_is_noticed(tmp_path, change):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    source = LocalFile(path)
    member = source.scan().members[0]
    change(path)
    with pytest.raises(SourceRefused):
        read_member(member, source)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"c" * (3 << 20))
    source = LocalFile(path)
    pieces = 0

    def sink(_piece: bytes) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 1:
            grow(path)

    with pytest.raises(SourceRefused, match="changed"):
        read_member(source.scan().members[0], source, sink)


def test_a_member_that_comes_during_the_reading_changes_the_fingerprint(tmp_path):
    source = LocalDirectory(tree(tmp_path / "d"))
    before = source.scan()
    thread = threading.Thread(target=lambda: (tmp_path / "d" / "sub" / "late").write_text("1"))
    thread.start()
    thread.join()
    assert source.scan().fingerprint != before.fingerprint


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.dictionaries(
        st.from_regex(r"[a-z]{1,2}(/[a-z.=]{1,3}x)?", fullmatch=True), st.binary(max_size=20), min_size=1, max_size=5
    )
)
def test_any_plain_tree_has_the_digest_of_its_lines(tmp_path, content):
    root = tmp_path / f"d{time.monotonic_ns()}"
    root.mkdir()
    kept: dict[str, bytes] = {}
    for name, data in content.items():
        if any(other.startswith(name + "/") or name.startswith(other + "/") for other in kept):
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        kept[name] = data
    lines = "\n".join(
        f"{name}={hashlib.sha1(kept[name]).hexdigest()}" for name in sorted(kept, key=lambda name: name.split("/"))
    )
    assert read_digests(LocalDirectory(root)).sha1 == hashlib.sha1(lines.encode()).hexdigest()
