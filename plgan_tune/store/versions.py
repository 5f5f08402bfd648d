"""Conditional puts: a store refuses to replace a file that has changed since its version was read."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import quote

from plgan_tune.store.location import Location, StoreError, naming

logger = logging.getLogger(__name__)


class ChangedError(StoreError):
    """A file that was written or removed after its version was read."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a store's files, for conditional puts.

    Attributes:
        key: The version's name in fsspec's `info` of a file.
        replace: Replaces a version of a file by a content.
    """

    key: str
    replace: Callable[[Location, bytes, str], None]

    @classmethod
    def of_store(cls, folder: Location) -> Self | None:
        """Return the versions of a store, or None if it has no conditional puts.

        Some servers that speak S3 ignore the condition, others refuse it. A small file shows.

        Args:
            folder: A folder on the store, for that file.
        """
        versions = next((cls(*how) for protocol, how in _STORES.items() if protocol in folder.protocols), None)
        return versions if versions is not None and versions._are_kept(folder) else None

    def of(self, file: Location) -> str | None:
        """Return the file's version, or None if there is no file.

        Args:
            file: The file.

        Raises:
            StoreError: If the store does not answer.
        """
        with naming("look for", file.url):
            file.fs.invalidate_cache()
            try:
                return str(file.fs.info(file.path)[self.key])
            except FileNotFoundError:
                return None

    def put(self, file: Location, content: bytes, version: str | None) -> None:
        """Replace the file as a whole.

        Args:
            file: The file.
            content: The new content.
            version: The version to replace. None creates the file.

        Raises:
            ChangedError: If the file has another version. It keeps its content.
            StoreError: If the file cannot be written.
        """
        if version is None:
            if not file.create(content):
                raise ChangedError(f"cannot write {file.url}: another process has created it")
            return
        with naming("write", file.url):
            try:
                self.replace(file, content, version)
            except Exception as error:
                if _is_refusal(error):
                    raise ChangedError(f"cannot write {file.url}: another process has changed it") from error
                raise
            finally:
                file.fs.invalidate_cache()

    def _are_kept(self, folder: Location) -> bool:
        """Return whether the store replaces the current version of a file, and refuses to replace an earlier one."""
        probe = folder.join(f"_probe.{uuid.uuid4().hex}")
        try:
            probe.write_bytes(b"first")
            first = self.of(probe)
            self.put(probe, b"second", first)
            self.put(probe, b"late", first)
        except ChangedError:
            return self.of(probe) != first
        except StoreError as error:
            logger.info("%s: no conditional writes: %s", folder.url, error)
        finally:
            probe.remove()
        return False


def _replace_on_s3(file: Location, content: bytes, version: str) -> None:
    # A single put, whatever the size: s3fs sends no condition with the parts of a multipart upload.
    file.fs.pipe_file(file.path, content, chunksize=max(len(content), 1), IfMatch=version)


def _replace_on_gcs(file: Location, content: bytes, version: str) -> None:
    # gcsfs has the condition only for a file that is not there; `call` takes any parameter of the JSON API.
    bucket, name, _ = file.fs.split_path(file.path)
    endpoint = file.fs.base.removesuffix("/storage/v1/")
    file.fs.call(
        "POST",
        f"{endpoint}/upload/storage/v1/b/{quote(bucket)}/o",
        uploadType="media",
        name=name,
        ifGenerationMatch=version,
        headers={"Content-Type": "application/octet-stream"},
        data=content,
    )


_S3: Final = ("ETag", _replace_on_s3)
_GCS: Final = ("generation", _replace_on_gcs)
_STORES: Final = {"s3": _S3, "s3a": _S3, "gs": _GCS, "gcs": _GCS}

_REFUSALS: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED})


def _is_refusal(error: BaseException) -> bool:
    """Return whether the condition was not met. s3fs keeps the answer in the cause, gcsfs raises FileExistsError."""
    answer: Any = getattr(error.__cause__, "response", None) or {}
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _REFUSALS or isinstance(error, FileExistsError | FileNotFoundError)
