"""The command line: ``dreamdb`` and ``dreamdb-cli``.

Source: design/0004 sections 9 and 10.  Every command parses its arguments, makes one library call
and shows the result as text or, with ``--json``, as a document with a stable envelope.
"""

from dreamdb.cli.program import Program, main, program

__all__ = ["Program", "main", "program"]
