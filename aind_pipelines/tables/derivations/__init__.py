"""Rows of the analysts' tables from records: pure functions, a module per table.

A derivation reads one record and yields the rows of one table. It never raises on odd data: what cannot be read is
null, and a finding on the record says so.
"""

from __future__ import annotations

from aind_pipelines.tables import analysts, schema
from aind_pipelines.tables.derivations.acquisitions import acquisition_rows, epoch_rows, stream_rows
from aind_pipelines.tables.derivations.data_assets import data_asset_rows
from aind_pipelines.tables.derivations.derivation import Derivation
from aind_pipelines.tables.derivations.funding import funding_rows
from aind_pipelines.tables.derivations.instruments import instrument_rows
from aind_pipelines.tables.derivations.lineage import lineage_rows
from aind_pipelines.tables.derivations.modalities import modality_rows
from aind_pipelines.tables.derivations.procedures import material_rows, procedure_rows
from aind_pipelines.tables.derivations.processing import process_rows
from aind_pipelines.tables.derivations.quality_control import metric_rows
from aind_pipelines.tables.derivations.subjects import statement_rows

DERIVATIONS = (
    Derivation("data_assets", schema.data_assets, data_asset_rows),
    Derivation("subjects", schema.subject_statements, statement_rows),
    Derivation("modalities", analysts.modalities, modality_rows),
    Derivation("asset_lineage", analysts.asset_lineage, lineage_rows),
    Derivation("processing", analysts.processing, process_rows),
    Derivation("funding", analysts.funding, funding_rows),
    Derivation("acquisitions", analysts.acquisitions, acquisition_rows),
    Derivation("data_streams", analysts.data_streams, stream_rows),
    Derivation("stimulus_epochs", analysts.stimulus_epochs, epoch_rows),
    Derivation("instruments", analysts.instruments, instrument_rows),
    Derivation("procedures", analysts.procedures, procedure_rows),
    Derivation("procedure_materials", analysts.procedure_materials, material_rows),
    Derivation("quality_control", analysts.quality_control, metric_rows),
)
"""Every derivation, ``data_assets`` first. That of ``subjects`` fills the table that ``subjects`` is made of."""

__all__ = ["DERIVATIONS", "Derivation"]
