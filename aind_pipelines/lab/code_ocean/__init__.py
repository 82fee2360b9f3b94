"""A stand-in for Code Ocean's API: data assets, capsules, pipelines and computations, for the published SDK.

It follows the contracts recorded from the SDK. What Code Ocean does not document is modelled: a name is found by its
beginning or by the beginning of one of its words, and a search word of more than 20 characters finds nothing unless
it is quoted. Nothing is computed and no files are kept: computations only pass through their states.

Modules: `query` (the search language), `search` (filters, order, pages), `state` (the state file), `changes` (what
requests make of it), `app` (HTTP).
"""
