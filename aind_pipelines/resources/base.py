"""What all resources share: no secret ever shows in a ``repr``, a log line or an error."""

from typing import ClassVar

import dagster as dg
from pydantic import ConfigDict


class Resource(dg.ConfigurableResource):
    """A `dagster.ConfigurableResource` whose secret fields are masked wherever it is printed.

    Dagster resolves an ``EnvVar`` into the field of the resource that a run gets, so that the default ``repr`` would
    show it. A field that the resource has not is an error.
    """

    model_config = ConfigDict(extra="forbid")

    SECRETS: ClassVar[frozenset[str]] = frozenset({"password", "token"})

    def __repr__(self) -> str:
        """The class and its fields, secrets masked."""
        fields = ", ".join(
            f"{name}={'***' if name in self.SECRETS and value is not None else repr(value)}"
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        )
        return f"{type(self).__name__}({fields})"

    __str__ = __repr__
