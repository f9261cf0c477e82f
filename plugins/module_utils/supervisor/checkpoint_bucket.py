# Copyright (c) 2026, opennebula.flower contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints in S3-compatible object storage: one object per checkpoint, named PREFIX/RUN/FILE."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

try:
    import boto3
    from botocore.config import Config as ClientConfig
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    boto3 = None

# What one request may carry, by the protocol.
LARGEST_OBJECT = 5 * 1024**3

_FILE = re.compile(r"checkpoint_round_[0-9]+\.npz")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CHUNK = 1024 * 1024
_REFUSED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403", "Forbidden", "InvalidToken")
_MISSING = ("404", "NoSuchKey", "NotFound")


class BucketError(Exception):
    """The object storage did not do what was asked; the message is one sentence. ``lasting``: trying again is no use."""

    def __init__(self, message: str, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint by the run it belongs to and the name of its file."""

    run: str
    name: str

    @classmethod
    def of(cls, run: str, name: str) -> Checkpoint | None:
        """Return the checkpoint with these names, None when they are not those of a checkpoint."""
        return cls(run, name) if _RUN.fullmatch(run) and _FILE.fullmatch(name) else None


@dataclass(frozen=True)
class Content:
    """What is in a checkpoint, with its checksums as the protocol wants them: MD5 in base64, SHA-256 in hexadecimal."""

    stream: BinaryIO
    md5: str
    sha256: str

    @classmethod
    def of(cls, stream: BinaryIO) -> Content:
        """Read a stream once for its checksums and set it back to its beginning."""
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            md5.update(chunk)
            sha256.update(chunk)
        stream.seek(0)
        return cls(stream, base64.b64encode(md5.digest()).decode(), sha256.hexdigest())


class Bucket:
    """A bucket. All calls raise BucketError."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        prefix: str = "",
        region: str = "us-east-1",
        ca_file: str = "",
    ) -> None:
        if boto3 is None:
            raise BucketError(f"the Python library boto3 is missing for {sys.executable}", lasting=True)
        self._place = f"bucket '{bucket}' at {endpoint}"
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            verify=ca_file or None,
            # Path style works with every S3-speaking server; whoever calls tries again.
            config=ClientConfig(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"max_attempts": 0},
                connect_timeout=5,
                read_timeout=60,
            ),
        )

    def checkpoints(self) -> list[Checkpoint]:
        """Return all checkpoints in the bucket, the ones uploaded last first."""
        return [checkpoint for checkpoint, _time in sorted(self._objects(), key=lambda entry: entry[1], reverse=True)]

    def digest(self, checkpoint: Checkpoint) -> str | None:
        """Return the SHA-256 of a checkpoint in the bucket, None when there is none or it is unknown."""
        try:
            answer = self._call("head_object", Bucket=self._bucket, Key=self._key(checkpoint))
        except _NoSuchObject:
            return None
        return answer["Metadata"].get("sha256")

    def upload(self, checkpoint: Checkpoint, content: Content) -> None:
        """Store a checkpoint; the server refuses it when it arrives with another checksum."""
        self._call(
            "put_object",
            Bucket=self._bucket,
            Key=self._key(checkpoint),
            Body=content.stream,
            ContentMD5=content.md5,
            Metadata={"sha256": content.sha256},
        )

    def download(self, checkpoint: Checkpoint, stream: BinaryIO) -> None:
        """Write a checkpoint to a stream and verify it."""
        answer = self._call("get_object", Bucket=self._bucket, Key=self._key(checkpoint))
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in answer["Body"].iter_chunks(_CHUNK):
                size += len(chunk)
                if size > LARGEST_OBJECT:
                    break
                digest.update(chunk)
                stream.write(chunk)
        except BotoCoreError as problem:
            raise BucketError(f"{self._place} broke off while {checkpoint.run}/{checkpoint.name} was read: {_text(problem)}") from problem
        if digest.hexdigest() != answer["Metadata"].get("sha256"):
            raise BucketError(f"{checkpoint.run}/{checkpoint.name} in {self._place} is not what was uploaded", lasting=True)

    def remove(self, checkpoint: Checkpoint) -> None:
        """Remove a checkpoint."""
        self._call("delete_object", Bucket=self._bucket, Key=self._key(checkpoint))

    def _objects(self) -> Iterator[tuple[Checkpoint, Any]]:
        token: dict[str, str] = {}
        while True:
            answer = self._call("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, **token)
            for entry in answer.get("Contents", []):
                run, _slash, name = entry["Key"][len(self._prefix) :].rpartition("/")
                checkpoint = Checkpoint.of(run, name)
                if checkpoint:
                    yield checkpoint, entry["LastModified"]
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def _key(self, checkpoint: Checkpoint) -> str:
        return f"{self._prefix}{checkpoint.run}/{checkpoint.name}"

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return getattr(self._client, operation)(**arguments)
        except ClientError as problem:
            code = str(problem.response.get("Error", {}).get("Code", ""))
            status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if operation == "head_object" and code in _MISSING:
                raise _NoSuchObject("there is no such object") from None
            if code in _REFUSED or status in (401, 403):
                raise BucketError(f"the credentials for {self._place} are refused", lasting=True) from None
            if code == "NoSuchBucket":
                raise BucketError(f"there is no {self._place}", lasting=True) from None
            raise BucketError(f"{self._place} answered {operation} with {code or status}") from None
        except BotoCoreError as problem:
            raise BucketError(f"{self._place} cannot be reached: {_text(problem)}") from None


class _NoSuchObject(BucketError):
    """The object does not exist."""


def _text(problem: Exception) -> str:
    return " ".join(str(problem).split())
