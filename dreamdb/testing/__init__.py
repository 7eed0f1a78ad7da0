"""Tools for testing backends and the code above them: a contract suite, counts and faults."""

from dreamdb.testing.counting import CountingBackend, Tally
from dreamdb.testing.faults import (
    Fault,
    FaultBackend,
    FaultPlan,
    SimulatedCrash,
    enumerate_faults,
    flip_bit,
    truncate,
)
from dreamdb.testing.samples import Check, OpenSpace
from dreamdb.testing.suite import CHECKS, check_backend

__all__ = [
    "CHECKS",
    "Check",
    "CountingBackend",
    "Fault",
    "FaultBackend",
    "FaultPlan",
    "OpenSpace",
    "SimulatedCrash",
    "Tally",
    "check_backend",
    "enumerate_faults",
    "flip_bit",
    "truncate",
]
