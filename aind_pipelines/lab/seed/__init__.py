"""The seed of the embedded institute: what its services know when the lab is new.

`institute` makes up a believable institute from a number, `troubles` plants what goes wrong in real ones, `real`
reads metadata records from files instead, and `load` brings either into the lab's services. The same numbers give
the same bytes on every machine, so that tests can count.
"""

from aind_pipelines.lab.seed.load import SeedRefused, SeedReport, Standing, seed, standing

__all__ = ["SeedRefused", "SeedReport", "Standing", "seed", "standing"]
