"""Digests: neurobank's, exactly, and a second one that sees what neurobank's does not."""

import hashlib
from pathlib import PurePosixPath

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from aind_pipelines.archive.digests import FileDigest, FileHasher, directory_digests, name_problem


def digest(content: bytes) -> FileDigest:
    hasher = FileHasher()
    hasher.update(content)
    return hasher.result()


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/"), min_size=1, max_size=5
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join).filter(lambda path: name_problem(path) is None)
trees = st.dictionaries(paths, st.binary(max_size=8), max_size=6).filter(
    lambda tree: not any(other.startswith(path + "/") for path in tree for other in tree)
)


def test_golden_directory_digest():
    files = {"a.txt": digest(b"first"), "sub/b.bin": digest(b"second"), "sub/empty": digest(b"")}
    result = directory_digests(files, ["emptydir"])
    assert result.sha1 == "184028ae14561a79106b25b57f0b659569e28d77"
    assert (result.size, result.files, result.kind) == (11, 3, "directory")


def test_golden_file_digest():
    assert digest(b"first").sha1 == "e0996a37c13d44c3b06074939d43fa3759bd32c1"


def test_names_are_ordered_by_components_not_by_characters():
    files = {"a.txt": digest(b"1"), "a/b": digest(b"2")}
    expected = "\n".join([f"a/b={digest(b'2').sha1}", f"a.txt={digest(b'1').sha1}"])
    assert directory_digests(files).sha1 == hashlib.sha1(expected.encode()).hexdigest()


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_one_pass_in_any_pieces_gives_the_digests_of_the_whole(pieces):
    hasher = FileHasher()
    for piece in pieces:
        hasher.update(piece)
    whole = b"".join(pieces)
    assert hasher.result() == FileDigest(len(whole), hashlib.sha1(whole).hexdigest(), blake3(whole).hexdigest())


@given(trees, trees)
def test_different_trees_have_different_digests(one, other):
    def both(tree):
        result = directory_digests({name: digest(content) for name, content in tree.items()})
        return result.sha1, result.blake3

    same = one == other
    assert (both(one)[0] == both(other)[0]) is same
    assert (both(one)[1] == both(other)[1]) is same


@given(trees)
def test_the_order_of_the_files_does_not_matter(tree):
    files = {name: digest(content) for name, content in tree.items()}
    assert directory_digests(dict(reversed(files.items()))) == directory_digests(files)


def test_the_second_digest_sees_empty_folders():
    files = {"a": digest(b"1")}
    assert directory_digests(files, ["e"]).blake3 != directory_digests(files).blake3
    assert directory_digests(files, ["e"]).sha1 == directory_digests(files).sha1


@pytest.mark.parametrize("name", ["a\nb", "a\x7f", "a\udc80", "", "/a", "a//b", "../a", "a/.", "a\u2028b", "a\x85b"])
def test_names_that_make_a_digest_ambiguous_are_refused_with_a_reason(name):
    assert name_problem(name)
    with pytest.raises(ValueError, match=r"control character|UTF-8|relative path"):
        directory_digests({name: digest(b"")})


@given(paths)
def test_ordinary_names_are_fine(path):
    assert name_problem(path) is None
    assert PurePosixPath(path).as_posix() == path
