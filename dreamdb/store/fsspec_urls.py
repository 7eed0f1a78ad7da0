"""Remote URLs: what they name, in canonical form and without credentials.

Source: design/0004 section 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from dreamdb.errors import InvalidInputError, MissingDependencyError, nearest_hint
from dreamdb.store.fsspec_files import FileSystem

__all__ = ["RemoteLocation", "parse_remote"]

# In these, what stands before the @ is a container, not a user.
_CONTAINER_BEFORE_AT: Final = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_DEFAULT_PORT: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class RemoteLocation:
    """A remote URL, understood.

    Parameters
    ----------
    url : str
        Canonical form, without credentials.
    connect : callable
        Returns the file system and the root's path in it.
    """

    url: str
    connect: Callable[[], tuple[FileSystem, str]]


def parse_remote(url: str, options: Mapping[str, object]) -> RemoteLocation:
    """Return what a remote URL names; connects to nothing.

    Raises
    ------
    InvalidInputError
        When it is malformed, of an unknown protocol, or holds credentials.
    MissingDependencyError
        When its protocol needs a package that is not installed.
    """
    protocol = re.split("::|://", url, maxsplit=1)[0].lower()
    _refuse_credentials(url, protocol)
    if protocol in ("s3", "s3a"):
        bucket, _, prefix = url.split("://", 1)[1].partition("/")
        path = _bucket_path(bucket, prefix, url)
        return RemoteLocation(f"s3://{path}", _s3(path, dict(options)))
    if protocol in ("http", "https"):
        return _endpoint(url, protocol, options)
    _check_protocol(protocol)
    canonical = protocol + url[len(protocol) :].rstrip("/")

    def connect() -> tuple[FileSystem, str]:
        import fsspec

        fs, path = fsspec.core.url_to_fs(canonical, **{"skip_instance_cache": True, **options})
        return fs, str(path)

    return RemoteLocation(canonical, connect)


def _refuse_credentials(url: str, protocol: str) -> None:
    """Refuse user names, passwords and signatures, without repeating them."""
    hosts = re.findall(r"://([^/]*)", url)
    if protocol not in _CONTAINER_BEFORE_AT and any("@" in host for host in hosts):
        raise InvalidInputError(
            f"the {protocol} URL holds credentials before its host",
            hint="give them in storage_options= or in the environment; URLs end up in logs",
        )
    if "?" in url or "#" in url:
        raise InvalidInputError(
            f"the {protocol} URL has a query or a fragment",
            hint="name the bucket and prefix only; options belong in storage_options=",
        )


def _bucket_path(bucket: str, prefix: str, url: str) -> str:
    if not bucket:
        raise InvalidInputError(f"{url!r} names no bucket", hint="write s3://bucket/prefix")
    segments = [segment for segment in prefix.split("/") if segment]
    if any(segment in (".", "..") for segment in segments):
        raise InvalidInputError(f"{url!r} has a relative segment", hint="write the prefix out")
    return "/".join([bucket, *segments])


def _endpoint(url: str, protocol: str, options: Mapping[str, object]) -> RemoteLocation:
    """Understand ``http(s)://host:port/bucket[/prefix]``."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"{url!r} is not a URL: {error}") from None
    bucket, _, prefix = parts.path.lstrip("/").partition("/")
    if not host or not bucket:
        raise InvalidInputError(
            f"{url!r} names no {'bucket' if host else 'host'}",
            hint="write http://host:port/bucket/prefix",
        )
    path = _bucket_path(bucket, prefix, url)
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORT[protocol]:
        shown = f"{shown}:{port}"
    endpoint = f"{protocol}://{shown}"
    merged: dict[str, object] = {"endpoint_url": endpoint, **options}
    # Buckets of such servers rarely have host names of their own.
    merged.setdefault("config_kwargs", {"s3": {"addressing_style": "path"}})
    return RemoteLocation(f"{endpoint}/{path}", _s3(path, merged))


def _s3(path: str, options: dict[str, object]) -> Callable[[], tuple[FileSystem, str]]:
    def connect() -> tuple[FileSystem, str]:
        try:
            import s3fs
        except ImportError as error:
            raise MissingDependencyError(
                f"S3 needs the package s3fs: {error}", hint="pip install s3fs"
            ) from None
        # Listings change under us, and an instance cached by fsspec would share credentials.
        settings: dict[str, object] = {
            "use_listings_cache": False,
            "skip_instance_cache": True,
            **options,
        }
        return s3fs.S3FileSystem(**settings), path

    return connect


def _check_protocol(protocol: str) -> None:
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        hint = nearest_hint(protocol, fsspec.available_protocols(), "protocols")
        raise InvalidInputError(f"unknown protocol {protocol!r}", hint=hint) from None
    except ImportError as error:
        raise MissingDependencyError(
            f"the protocol {protocol!r} needs another package: {error}",
            hint="install it and try again",
        ) from None
