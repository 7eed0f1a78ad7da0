"""Tools for testing backends and the code above them.

* :func:`check_backend` and ``CHECKS``: the contract of the ports, the definition of a backend.
* :class:`FaultBackend`: fails at a chosen call in a chosen way; :func:`enumerate_faults` goes
  through all of them.
* :class:`CountingBackend`: counts requests and bytes.
* :class:`SpaceModel`: what a space should hold, in dictionaries.
* ``dreamdb.testing.strategies`` and ``dreamdb.testing.histories`` (need ``hypothesis``): ref names,
  addresses, objects; random histories of a backend against the model.

``tests/store/test_third_party.py`` shows a backend of another package from its first line to a
collector beside its writers.
"""

from dreamdb.testing.counting import CountingBackend, Tally
from dreamdb.testing.document_checks import DOCUMENT_CHECKS, TRASH_CHECKS
from dreamdb.testing.faults import (
    Fault,
    FaultBackend,
    FaultPlan,
    SimulatedCrash,
    enumerate_faults,
    flip_bit,
    truncate,
)
from dreamdb.testing.model import SpaceModel
from dreamdb.testing.samples import Check, OpenSpace
from dreamdb.testing.stamp_checks import STAMP_CHECKS
from dreamdb.testing.suite import CHECKS, check_backend

__all__ = [
    "CHECKS",
    "DOCUMENT_CHECKS",
    "STAMP_CHECKS",
    "TRASH_CHECKS",
    "Check",
    "CountingBackend",
    "Fault",
    "FaultBackend",
    "FaultPlan",
    "OpenSpace",
    "SimulatedCrash",
    "SpaceModel",
    "Tally",
    "check_backend",
    "enumerate_faults",
    "flip_bit",
    "truncate",
]
