"""Events as a Darwin Core Archive of occurrences, for GBIF and other data portals.

Terms: https://dwc.tdwg.org/terms; the archive: Darwin Core text guide, https://dwc.tdwg.org/text.
"""

from collections.abc import Iterable
from xml.etree import ElementTree

import pyarrow as pa

from model.bundle_document import RESERVED_LABEL
from model.errors import UserError
from pipeline.csv_file import cell, csv_file, line
from pipeline.dataset import Dataset, quoted, registered
from pipeline.export_kind import Row, Seen, Written
from pipeline.placed import bounds, event_id, model_name, placed, recording_id
from pipeline.scored import KEYS, SAME
from pipeline.storage import Folder
from pipeline.taxon import names_of
from pipeline.text import count

TABLE, META = "occurrence.csv", "meta.xml"
TERMS = "http://rs.tdwg.org/dwc/terms/"
COLUMNS = (
    *("occurrenceID", "basisOfRecord", "occurrenceStatus", "eventID", "eventDate"),
    *("locality", "decimalLatitude", "decimalLongitude", "geodeticDatum"),
    *("samplingProtocol", "samplingEffort", "eventRemarks"),
    *("scientificName", "vernacularName", "verbatimIdentification", "identifiedBy"),
    *("identificationVerificationStatus", "identificationRemarks"),
)
"""The columns of the table: each is a Darwin Core term by its name."""


def write_darwin_core(dataset: Dataset, tables: Iterable[pa.Table], out: Folder) -> Written:
    """Writes the occurrences and the archive's metafile.

    Left out, and told, are events without a date and those of the label `unknown`, which is no
    name. UserError if no event is left.
    """
    seen, undated, unknown, unplaced, clock = Seen(), 0, 0, 0, 0
    protocol = f"passive acoustic recording, windows of {dataset.identity['window_s']:g} s scored"
    with csv_file(out, TABLE, COLUMNS) as write:
        for table in placed(dataset, tables):
            efforts = _efforts(dataset, table)
            for row, seconds in zip(table.to_pylist(), efforts, strict=True):
                times = bounds(row)
                undated, unknown = undated + (times is None), unknown + _is_unknown(row)
                if times is None or _is_unknown(row):
                    continue
                seen.add(row)
                unplaced += row["site_latitude"] is None
                clock += row["utc"] is None
                write(_cells(dataset, row, times, seconds, protocol))
        if not seen.events:
            raise UserError(
                "No event has both a date and a name, so there is no occurrence to write; give "
                "the recordings' times to detect, or another --label or --threshold."
            )
    out.write(META, metafile())
    notes = {
        "{} left out: nothing tells their date.": undated,
        f"{{}} left out: {RESERVED_LABEL} is no name.": unknown,
        "{} without coordinates: no deployment tells them.": unplaced,
        "{} with the recorder's clock time, without an offset: UTC is not known.": clock,
    }
    told = [text.format(count(number, "event")) for text, number in notes.items() if number]
    return Written(seen.events, seen.recordings, 2, tuple(told))


def metafile() -> bytes:
    """The archive's meta.xml: which column of the table holds which term."""
    archive = ElementTree.Element("archive", xmlns="http://rs.tdwg.org/dwc/text/")
    core = ElementTree.SubElement(
        archive,
        "core",
        encoding="UTF-8",
        fieldsTerminatedBy=",",
        linesTerminatedBy="\\r\\n",
        fieldsEnclosedBy='"',
        ignoreHeaderLines="1",
        rowType=f"{TERMS}Occurrence",
    )
    files = ElementTree.SubElement(core, "files")
    ElementTree.SubElement(files, "location").text = TABLE
    ElementTree.SubElement(core, "id", index="0")
    for index, name in enumerate(COLUMNS):
        ElementTree.SubElement(core, "field", index=str(index), term=TERMS + name)
    ElementTree.indent(archive)
    return bytes(ElementTree.tostring(archive, "UTF-8", xml_declaration=True)) + b"\n"


def _is_unknown(row: Row) -> bool:
    return bool(row["label"] == RESERVED_LABEL)


def _efforts(dataset: Dataset, table: pa.Table) -> list[float]:
    """Seconds that were scored of each event's recording, in the table's order."""
    keys = table.select(KEYS.names)
    sites = keys["site"].to_pylist() or [""]
    with registered(dataset.connection, effort_keys=keys.group_by(KEYS.names).aggregate([])):
        found = dataset.connection.sql(
            f"""SELECT o.site, o.recording, o.channel, sum(c.seconds_scored)
            FROM coverage c JOIN effort_keys o ON {SAME}
            WHERE c.site BETWEEN {quoted(min(sites))} AND {quoted(max(sites))} GROUP BY ALL"""
        ).fetchall()
    seconds = {(site, recording, channel): total for site, recording, channel, total in found}
    columns = (keys[name].to_pylist() for name in KEYS.names)
    return [seconds[key] for key in zip(*columns, strict=True)]


def _cells(
    dataset: Dataset, row: Row, times: tuple[str, str], seconds: float, protocol: str
) -> list[str | float]:
    """An occurrence, by `COLUMNS`."""
    scientific, common = names_of(row["label"])
    latitude, longitude = row["site_latitude"], row["site_longitude"]
    at = ("", "", "") if latitude is None else (latitude, longitude, "EPSG:4326")
    remarks = f"{row['start_s']:.3f} to {row['end_s']:.3f} s of {line(row['recording'])}"
    channel = "" if row["channel"] is None else f", channel {row['channel']}"
    return [
        *(event_id(dataset, row), "MachineObservation", "present"),
        *(recording_id(row), "/".join(times)),
        *(cell(row["site"]), *at),
        *(protocol, f"{seconds:.1f} s of the recording scored", remarks + channel),
        *(cell(scientific), cell(common or ""), cell(row["label"]), model_name(dataset)),
        *("PredictedByMachine", f"score {row['score']:.4f} of 0 to 1"),
    ]
