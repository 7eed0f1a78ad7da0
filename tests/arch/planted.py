"""Small packages written to a temporary directory, so that each checker is seen to object."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

# A package that keeps every rule; a test plants its breach on top.
_INDENTED = {
    "__init__.py": '"""A package."""\n',
    "errors.py": '''
        """Errors."""

        __all__ = ["Broken"]


        class Broken(Exception):
            """Something is broken."""
    ''',
    "store/__init__.py": '''
        """Stores."""

        from dreamdb.store.local import put

        __all__ = ["put"]
    ''',
    "store/local.py": '''
        """A store."""

        import os

        from dreamdb.errors import Broken

        __all__ = ["put"]


        def put(name, data, *, where, sync):
            """Put bytes.

            Parameters
            ----------
            name, data : bytes
                What to put.
            where : str
                Where to.
            sync : bool
                Whether to wait.

            Raises
            ------
            Broken
                When it is.
            """
            if not os.path.isdir(where):
                raise Broken(name)
    ''',
    "dataset/__init__.py": '''
        """The handle."""

        from dreamdb.store import put as _put

        __all__ = ["Dataset"]


        class Dataset:
            """The handle.

            Parameters
            ----------
            name : str
                Its name.
            """

            def __init__(self, name):
                self.name = name

            def write(self, data):
                """Write.

                Parameters
                ----------
                data : bytes
                    What to write.
                """
                _put(self.name, data, where=".", sync=True)
    ''',
}
SOUND = {name: dedent(text).lstrip("\n") for name, text in _INDENTED.items()}


def plant(directory: Path, extra: dict[str, str] | None = None) -> Path:
    """Write the sound package, changed by ``extra``, and return its root.

    Parameters
    ----------
    directory : Path
        Where the package directory ``dreamdb`` is made.
    extra : dict of str to str, optional
        Files that replace or join the sound ones, by path; common indentation is removed.
    """
    root = directory / "dreamdb"
    for name, text in {**SOUND, **(extra or {})}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return root
