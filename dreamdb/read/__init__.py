"""Reading: scans, conditions, takes, search, comparison, summaries."""

from dreamdb.read.blame import last_writer
from dreamdb.read.columnar import column_schema, scan_columns
from dreamdb.read.compare import Comparison, compare_views
from dreamdb.read.difference import Diff, FieldStat
from dreamdb.read.nearest import SearchOptions, search_nearest
from dreamdb.read.output import output_array, output_schema, output_type
from dreamdb.read.plan import ScanPlan, ScanReport, check_batch_size, to_batch
from dreamdb.read.predicate import Predicate, col, parse_where
from dreamdb.read.scan import count_matching, matching_rows, scan_batches
from dreamdb.read.search import METRICS, search_exact
from dreamdb.read.summary import FieldSummary, distinct_values, summarise

__all__ = [
    "METRICS",
    "Comparison",
    "Diff",
    "FieldStat",
    "FieldSummary",
    "Predicate",
    "ScanPlan",
    "ScanReport",
    "SearchOptions",
    "check_batch_size",
    "col",
    "column_schema",
    "compare_views",
    "count_matching",
    "distinct_values",
    "last_writer",
    "matching_rows",
    "output_array",
    "output_schema",
    "output_type",
    "parse_where",
    "scan_batches",
    "scan_columns",
    "search_exact",
    "search_nearest",
    "summarise",
    "to_batch",
]
