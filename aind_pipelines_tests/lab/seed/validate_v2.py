"""Run by the interpreter of an environment with aind-data-schema 2.x: validates records read from stdin.

Reads a JSON list of v2 records, prints a JSON list of problems, each with the record's name, the core file and why.
"""

import json
import logging
import sys
import warnings

from aind_data_schema.core.acquisition import Acquisition
from aind_data_schema.core.data_description import DataDescription
from aind_data_schema.core.instrument import Instrument
from aind_data_schema.core.metadata import Metadata
from aind_data_schema.core.procedures import Procedures
from aind_data_schema.core.processing import Processing
from aind_data_schema.core.quality_control import QualityControl
from aind_data_schema.core.subject import Subject

CORE = {
    "subject": Subject,
    "data_description": DataDescription,
    "procedures": Procedures,
    "instrument": Instrument,
    "acquisition": Acquisition,
    "processing": Processing,
    "quality_control": QualityControl,
}


class Collector(logging.Handler):
    """`Metadata` only logs what is wrong inside its parts."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def main():
    """Validate every record, core file by core file and as a whole."""
    collector = Collector()
    logging.getLogger("aind_data_schema").addHandler(collector)
    problems = []
    for record in json.load(sys.stdin):
        bad_parts = len(problems)
        for name, model in CORE.items():
            if record.get(name) is None:
                continue
            try:
                parsed = model.model_validate(record[name])
            except ValueError as error:
                problems.append([record["name"], name, str(error)])
                continue
            stated, current = record[name]["schema_version"], model.model_fields["schema_version"].default
            if stated != current or parsed.schema_version != current:
                problems.append([record["name"], name, f"schema version {stated}, the library has {current}"])
        if len(problems) > bad_parts:
            continue  # the whole says no more than its parts, and may crash on them
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # The library's own validators touch the fields that it has deprecated.
            warnings.filterwarnings("ignore", message="Deprecated: use (global|local)_coordinate_system")
            collector.messages.clear()
            try:
                Metadata.model_validate(record)
            except ValueError as error:
                problems.append([record["name"], "metadata", str(error)])
        problems += [[record["name"], "metadata", f"warning: {warning.message}"] for warning in caught]
        problems += [[record["name"], "metadata", f"logged: {message}"] for message in collector.messages]
    json.dump(problems, sys.stdout)


main()
