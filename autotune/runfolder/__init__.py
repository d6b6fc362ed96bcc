"""A run on disk as values: its journal, its resolved spec, and the tables derived from them."""

from autotune.runfolder.codec import decode_outcome, encode_outcome, trials
from autotune.runfolder.run import JOURNAL, SPEC, RunData, assemble, read, read_spec
from autotune.runfolder.tables import front, table, write_tables

__all__ = [
    "JOURNAL",
    "SPEC",
    "RunData",
    "assemble",
    "decode_outcome",
    "encode_outcome",
    "front",
    "read",
    "read_spec",
    "table",
    "trials",
    "write_tables",
]
