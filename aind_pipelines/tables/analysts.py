"""Models of the analysts' tables that have any number of rows per record.

Each row names its record by (``record_version``, ``record_id``), as ``data_assets`` does by (``record_version``,
``id``). Values have one unit per column, whatever unit the record states; what a record lacks is null. People are
counted, never named.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Date, Double, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from aind_pipelines.tables.columns import made_of, metadata, record_columns, time_column

_WITHOUT_ZONE = "UTC where the record states no zone, null where its acquisition shows that it is another"

modalities = Table(
    "modalities",
    metadata,
    *record_columns("modality"),
    Column("modality", Text, nullable=False, comment="modality abbreviation, e.g. ecephys"),
    Column("modality_name", Text, comment="its full name; null for a word that is no known modality"),
    comment="One row per asset and modality",
)
Index("ix_modalities_modality", modalities.c.modality)

asset_lineage = Table(
    "asset_lineage",
    metadata,
    *record_columns("source"),
    Column("derived_name", Text, comment="name of the asset that was made"),
    Column("source_name", Text, nullable=False, comment="name of an asset it was made of"),
    Column("stated_by", Text, nullable=False, comment="record: the record says so; name: only the asset's name does"),
    Column(
        "source_record_version",
        Text,
        comment="version of the source's record; null while no record has its name",
        info=made_of(("docdb_records", "body"), ("data_assets", "record_version"), ("data_assets", "name")),
    ),
    Column(
        "source_record_id",
        Text,
        comment="DocDB _id of the source's record; null while no record has its name",
        info=made_of(("docdb_records", "body"), ("data_assets", "id"), ("data_assets", "name")),
    ),
    Column(
        "source_records",
        Integer,
        comment="how many records have the source's name; of several, that of the same version counts, then the "
        "newer version, then the one modified last",
        info=made_of(("docdb_records", "body"), ("data_assets", "name")),
    ),
    comment="One row per derived asset and asset it was made of",
)
Index("ix_asset_lineage_source_name", asset_lineage.c.source_name)
Index("ix_asset_lineage_derived_name", asset_lineage.c.derived_name)

processing = Table(
    "processing",
    metadata,
    *record_columns("process"),
    Column("path", Text, nullable=False, comment="where it stands in the record, dotted"),
    Column("process_type", Text, comment="kind of process, e.g. Spike sorting; v1 calls it name"),
    Column("name", Text, comment="the process' own name; v2 only"),
    Column("stage", Text, comment="Processing or Analysis"),
    Column("software_name", Text, comment="name of the code; v2 only"),
    Column("software_version", Text, comment="version of the software, or of v2's code, as recorded"),
    Column("code_url", Text, comment="where the code is"),
    Column("code_version", Text, comment="version of the code beside that of the software; v1 only"),
    Column("pipeline_name", Text, comment="pipeline it ran in; v2 only"),
    Column("pipeline_url", Text, comment="where that pipeline's code is"),
    Column("pipeline_version", Text, comment="version of that pipeline"),
    time_column("start_time", "when it started; UTC where the record states no zone"),
    time_column("end_time", "when it ended; UTC where the record states no zone"),
    comment="One row per process that was run on an asset's data",
)
Index("ix_processing_process_type", processing.c.process_type)

funding = Table(
    "funding",
    metadata,
    *record_columns("funding source"),
    Column("funder", Text, comment="name of the funder"),
    Column("funder_abbreviation", Text, comment="its abbreviation"),
    Column("grant_number", Text, comment="grant number as recorded"),
    comment="One row per asset and funding source",
)
Index("ix_funding_grant_number", funding.c.grant_number)

acquisitions = Table(
    "acquisitions",
    metadata,
    *record_columns("acquisition"),
    Column("section", Text, nullable=False, comment="part of the record it is from: session (v1) or acquisition"),
    Column("schema_version", Text, comment="schema version of that part"),
    Column("subject_id", Text, comment="subject that part names"),
    Column("specimen_ids", ARRAY(Text), nullable=False, comment="specimens that part names"),
    Column("instrument_id", Text, comment="rig or instrument as that part names it"),
    Column("acquisition_type", Text, comment="kind of session or acquisition, as recorded"),
    time_column("start_time", f"when it started; {_WITHOUT_ZONE}"),
    time_column("end_time", f"when it ended; {_WITHOUT_ZONE}"),
    Column("modalities", ARRAY(Text), nullable=False, comment="modality abbreviations of its data streams, sorted"),
    Column("stream_count", Integer, nullable=False, comment="data streams; see data_streams"),
    Column("epoch_count", Integer, nullable=False, comment="stimulus epochs; see stimulus_epochs"),
    Column("tile_count", Integer, comment="tiles of an imaging acquisition; null where none are listed"),
    Column("protocol_ids", ARRAY(Text), nullable=False, comment="protocols, as recorded"),
    Column("ethics_review_ids", ARRAY(Text), nullable=False, comment="ethics reviews (IACUC protocols)"),
    Column("experimenter_count", Integer, comment="experimenters it names; null when it says nothing of them"),
    Column("animal_weight_prior", Double, comment="weight of the animal before, grams"),
    Column("animal_weight_post", Double, comment="weight of the animal after, grams"),
    Column("reward_consumed", Double, comment="water consumed as reward in all, microlitres"),
    Column("platform_name", Text, comment="what the animal was on, e.g. a wheel or a tube"),
    Column("platform_active", Boolean, comment="whether that platform was driven; v1 only"),
    comment="One row per acquisition: a session in v1, an acquisition in v2",
)
Index("ix_acquisitions_instrument_id", acquisitions.c.instrument_id)
Index("ix_acquisitions_subject_id", acquisitions.c.subject_id)

data_streams = Table(
    "data_streams",
    metadata,
    *record_columns("data stream"),
    Column("acquisition_position", Integer, nullable=False, comment="position of its acquisition in acquisitions"),
    time_column("start_time", f"when it started; {_WITHOUT_ZONE}"),
    time_column("end_time", f"when it ended; {_WITHOUT_ZONE}"),
    Column("modalities", ARRAY(Text), nullable=False, comment="modality abbreviations, sorted"),
    Column(
        "devices",
        ARRAY(Text),
        nullable=False,
        comment="names of the devices in use; v2's active devices, in v1 those of every kind",
    ),
    comment="One row per data stream of an acquisition",
)

stimulus_epochs = Table(
    "stimulus_epochs",
    metadata,
    *record_columns("stimulus epoch"),
    Column("acquisition_position", Integer, nullable=False, comment="position of its acquisition in acquisitions"),
    Column("stimulus_name", Text, comment="name of the stimulus"),
    Column("stimulus_modalities", ARRAY(Text), nullable=False, comment="e.g. Auditory, as recorded"),
    time_column("start_time", f"when it started; {_WITHOUT_ZONE}"),
    time_column("end_time", f"when it ended; {_WITHOUT_ZONE}"),
    Column("devices", ARRAY(Text), nullable=False, comment="names of the devices in use"),
    Column(
        "software",
        JSONB,
        nullable=False,
        comment="[{name, version, url}] of its software and script (v1) or code (v2)",
    ),
    Column("trials_total", Integer, comment="trials"),
    Column("trials_finished", Integer, comment="trials that were finished"),
    Column("trials_rewarded", Integer, comment="trials that were rewarded"),
    Column("reward_consumed", Double, comment="water consumed as reward during the epoch, microlitres"),
    comment="One row per stimulus epoch of an acquisition",
)

instruments = Table(
    "instruments",
    metadata,
    *record_columns("rig or instrument"),
    Column("section", Text, nullable=False, comment="part of the record it is from: rig (v1) or instrument"),
    Column("schema_version", Text, comment="schema version of that part"),
    Column("instrument_id", Text, comment="the rig's or instrument's id"),
    Column("instrument_type", Text, comment="e.g. SmartSPIM; instruments of v1 only"),
    Column("manufacturer", Text, comment="name of the manufacturer; instruments of v1 only"),
    Column("location", Text, comment="where it stands"),
    Column("modification_date", Date, comment="when it was last changed"),
    Column("modalities", ARRAY(Text), nullable=False, comment="modality abbreviations, sorted"),
    Column("temperature_control", Boolean, comment="whether its temperature is controlled"),
    Column("devices", ARRAY(Text), nullable=False, comment="names of its devices"),
    Column("calibration_count", Integer, comment="calibrations; null where none are listed"),
    comment="One row per asset and the rig or instrument that acquired it, as it was then",
)
Index("ix_instruments_instrument_id", instruments.c.instrument_id)

procedures = Table(
    "procedures",
    metadata,
    *record_columns("procedure"),
    Column("path", Text, nullable=False, comment="where it stands in the record, dotted"),
    Column("subject_id", Text, comment="subject whose procedures these are"),
    Column("target", Text, nullable=False, comment="subject or specimen"),
    Column(
        "surgery_position",
        Integer,
        comment="position of the surgery it was a part of; null for a procedure of its own, surgeries too",
    ),
    Column("procedure_type", Text, comment="as recorded: Surgery, Nanoject injection (v1), Brain injection (v2) ..."),
    Column("procedure_name", Text, comment="name within its type; specimen procedures only"),
    Column("start_date", Date, comment="first day; of a part of a surgery that of the surgery"),
    Column("end_date", Date, comment="last day, where one is recorded"),
    Column("specimen_ids", ARRAY(Text), nullable=False, comment="specimens it was done to"),
    Column("output_specimen_ids", ARRAY(Text), nullable=False, comment="specimens it made"),
    Column("protocol_ids", ARRAY(Text), nullable=False, comment="protocols, as recorded"),
    Column("ethics_review_id", Text, comment="ethics review (IACUC protocol); of surgeries"),
    Column("workstation_id", Text, comment="surgery workstation"),
    Column("animal_weight_prior", Double, comment="weight of the animal before, grams"),
    Column("animal_weight_post", Double, comment="weight of the animal after, grams"),
    Column("anaesthetic", Text, comment="anaesthetic, as recorded"),
    Column("anaesthesia_duration", Double, comment="how long it was anaesthetised, minutes"),
    Column("targeted_structure", Text, comment="acronym of the targeted structure, or else its name"),
    Column("hemisphere", Text, comment="Left or Right: v1's hemisphere, the one side among v2's relative positions"),
    Column(
        "injection_volumes", ARRAY(Double), nullable=False, comment="volumes of an injection, nanolitres, in order"
    ),
    Column("coordinates", JSONB, comment="coordinates as recorded; v1 names its axes, v2 a coordinate system"),
    Column("coordinate_system", Text, comment="v1's reference point, or the name of v2's coordinate system"),
    Column("material_count", Integer, nullable=False, comment="materials; see procedure_materials"),
    Column("devices", ARRAY(Text), nullable=False, comment="names of implanted devices, e.g. fibers"),
    comment="One row per procedure: surgeries, what was done in them, other procedures, and those on specimens",
)
Index("ix_procedures_subject_id", procedures.c.subject_id)
Index("ix_procedures_procedure_type", procedures.c.procedure_type)

procedure_materials = Table(
    "procedure_materials",
    metadata,
    *record_columns("material"),
    Column("procedure_position", Integer, nullable=False, comment="position of its procedure in procedures"),
    Column("material_type", Text, comment="Virus (v1), Viral material (v2), Reagent ..., as recorded"),
    Column("name", Text, comment="name as recorded"),
    Column("titer", Double, comment="titer of a virus, in titer_unit"),
    Column("titer_unit", Text, comment="unit of the titer, e.g. gc/mL; null without a titer"),
    Column("concentration", Double, comment="concentration of another material, in concentration_unit"),
    Column("concentration_unit", Text, comment="unit of the concentration; null without one"),
    Column("virus_tars_id", Text, comment="virus id in TARS"),
    Column("plasmid_tars_aliases", ARRAY(Text), nullable=False, comment="plasmid aliases in TARS"),
    Column("lot_number", Text, comment="lot of the preparation or of the reagent"),
    Column("addgene_id", Text, comment="Addgene identifier"),
    Column("rrid", Text, comment="research resource identifier"),
    comment="One row per material of a procedure: what was injected, and reagents",
)
Index("ix_procedure_materials_name", procedure_materials.c.name)

quality_control = Table(
    "quality_control",
    metadata,
    *record_columns("metric"),
    Column("path", Text, nullable=False, comment="where it stands in the record, dotted"),
    Column("evaluation_name", Text, comment="evaluation the metric belongs to; v1 only"),
    Column("evaluation_status", Text, comment="latest status of that evaluation, where recorded; v1 only"),
    Column("stage", Text, comment="e.g. Raw data, Processing"),
    Column("modality", Text, comment="modality abbreviation"),
    Column(
        "tags", ARRAY(Text), nullable=False, comment="tags of the metric or of v1's evaluation; pairs as key:value"
    ),
    Column("metric_name", Text, comment="name of the metric; null for an evaluation without metrics"),
    Column("metric_type", Text, comment="QC metric or Curation metric; v2 only"),
    Column("status", Text, comment="status of the metric: the last one of its history"),
    time_column("status_time", "when it got that status; UTC where the record states no zone"),
    Column("status_count", Integer, nullable=False, comment="how many statuses its history has"),
    Column("automated", Boolean, comment="whether a program gave that status: its evaluator is Automated"),
    Column("value", JSONB, comment="value as recorded; null when it is longer than 10,000 characters"),
    Column("reference", Text, comment="plot or page that shows it"),
    comment="One row per quality metric, with its evaluation",
)
Index("ix_quality_control_metric_name", quality_control.c.metric_name)

RECORD_TABLES = (
    modalities,
    asset_lineage,
    processing,
    funding,
    acquisitions,
    data_streams,
    stimulus_epochs,
    instruments,
    procedures,
    procedure_materials,
    quality_control,
)
"""The tables of this module."""
