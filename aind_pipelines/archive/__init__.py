"""neurobank-compatible archives: layout, identifiers, digests, journal, ledger, deposit and fixity.

`aind_pipelines.archive.fsops` is the only module that changes files in an archive.
"""
