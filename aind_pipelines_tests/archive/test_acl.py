"""The encoded ACL is the one that the kernel takes, keeps and applies."""

import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_pipelines.archive.acl import ATTRIBUTE, default_acl
from aind_pipelines_tests.counts import examples


def test_the_umask_027_gives_others_nothing():
    assert default_acl(0o027).hex() == (
        "02000000"  # version
        "01000700ffffffff"  # u::rwx
        "04000500ffffffff"  # g::r-x
        "20000000ffffffff"  # o::---
    )


@settings(max_examples=examples(20))
@given(umask=st.integers(0, 0o077))
def test_what_is_made_in_the_folder_has_the_rights_of_the_umask(tmp_path_factory, umask):
    folder = tmp_path_factory.mktemp("acl")
    try:
        os.setxattr(folder, ATTRIBUTE, default_acl(umask))
    except (OSError, AttributeError):
        pytest.skip("this file system has no ACLs")
    assert os.getxattr(folder, ATTRIBUTE) == default_acl(umask)
    before = os.umask(0o077)
    try:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "inner").stat().st_mode) == 0o777 & ~umask
    assert stat.S_IMODE((folder / "inner" / "file").stat().st_mode) == 0o666 & ~umask
