"""What was seen and said, in SQLite: one record per field, model, settings and case."""

from allsub_edge.records.database import FILE_NAME, VERSION, default_folder
from allsub_edge.records.problems import RecordsError
from allsub_edge.records.record import SCHEMA, Record, Seen
from allsub_edge.records.store import Records

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "VERSION",
    "Record",
    "Records",
    "RecordsError",
    "Seen",
    "default_folder",
]
