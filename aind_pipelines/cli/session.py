"""``aind-pipelines session``: what is known of a session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aind_pipelines.sessions.lookup import KnownSession


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="print one JSON list on stdout, an object per session")
def session(ids: tuple[str, ...], as_json: bool) -> None:
    """Say what is known of sessions: raw asset, raw data, modalities, derived assets, findings.

    ID is a session id, or any name or path that holds one. Exit 1 when one of them is unknown.

    \b
    aind-pipelines session ecephys_676909_2023-12-13_13-43-40
    """
    from aind_pipelines.clients.rds import engine_from_settings
    from aind_pipelines.sessions.ids import session_id_in
    from aind_pipelines.sessions.lookup import known_sessions
    from aind_pipelines.settings import load_settings
    from aind_pipelines.tables.migrate import require_current

    try:
        wanted = list(dict.fromkeys(session_id_in(text).id for text in ids))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ID") from None
    engine = engine_from_settings(load_settings(), application_name="aind-pipelines session")
    try:
        require_current(engine)
        known = known_sessions(engine, wanted)
    finally:
        engine.dispose()
    if as_json:
        click.echo(json.dumps([known[id_].to_json() for id_ in wanted if id_ in known], indent=2))
    elif known:
        click.echo("\n\n".join(_described(known[id_]) for id_ in wanted if id_ in known))
    if unknown := [id_ for id_ in wanted if id_ not in known]:
        click.echo(
            f"unknown: {', '.join(unknown)}. No record, Code Ocean asset or bucket named it when its month was last "
            "resolved; to resolve the month anew, materialize session_assets.",
            err=True,
        )
        raise SystemExit(1)


def _described(known: KnownSession) -> str:
    values = known.values
    record = f"{values['raw_record_version']} {values['raw_record_id']}" if values["raw_record_id"] else None
    facts = {
        "platform": values["platform"],
        "subject": values["subject_id"],
        "time": f"{values['session_time']:%Y-%m-%d %H:%M:%S}",
        "raw asset": values["raw_asset_name"],
        "record": record,
        "Code Ocean": values["raw_code_ocean_id"],
        "raw data": values["raw_data_dir"],
        "modalities": ", ".join(values["modalities"] or ()),
    }
    lines = [values["session_id"]]
    lines += [f"  {name:<11} {value or '-'}" for name, value in facts.items()]
    for entry in values["derived"]:
        lines.append(f"  {'derived':<11} {entry['name']}")
        lines += [f"  {'':<11}   {entry[field]}" for field in ("code_ocean_id", "location") if entry[field]]
    lines += [f"  {'finding':<11} {item.code}: {item.message}" for item in known.findings]
    return "\n".join(lines)
