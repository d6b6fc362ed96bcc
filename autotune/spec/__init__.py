"""The door: a YAML file that a user wrote -> typed values, or an error that says what to mend."""

from autotune.spec.catalog import Entry, Section, catalog
from autotune.spec.compare import collapsed, differences, unable
from autotune.spec.conditions import in_words
from autotune.spec.load import load
from autotune.spec.reader import dump
from autotune.spec.rules import on_machines
from autotune.spec.schema import schema
from autotune.spec.values import Budget, MetricRef, Spec

__all__ = [
    "Budget",
    "Entry",
    "MetricRef",
    "Section",
    "Spec",
    "catalog",
    "collapsed",
    "differences",
    "dump",
    "in_words",
    "load",
    "on_machines",
    "schema",
    "unable",
]
