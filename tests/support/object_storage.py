# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""A server that speaks S3, with one bucket and one user whom it lets in."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3

DEADLINE = 300  # seconds


@dataclass(frozen=True)
class Storage:
    """A running server with one bucket."""

    endpoint: str
    access_key: str
    secret_key: str

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def keys(self) -> list[str]:
        return sorted(entry["Key"] for entry in self.client().list_objects_v2(Bucket="models").get("Contents", []))

    def next_second(self) -> None:
        """Wait until the server stamps what it is given with another second, by which the protocol tells the order."""
        pause, before = threading.Event(), int(time.time())
        while int(time.time()) == before:
            pause.wait(0.05)


@contextmanager
def server(port: int, host: str = "127.0.0.1") -> Iterator[str]:
    """Run the server on an address of this machine; its URL."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / "moto_server", "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                urllib.request.urlopen(f"http://{host}:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
        yield f"http://{host}:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE)


def empty_bucket(endpoint: str) -> Storage:
    """The server with an empty bucket; it lets in one user only."""
    _post(f"{endpoint}/moto-api/reset")
    _post(f"{endpoint}/moto-api/reset-auth", b"1000")
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
    iam.create_user(UserName="flower")
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    iam.put_user_policy(UserName="flower", PolicyName="s3", PolicyDocument=policy)
    key = iam.create_access_key(UserName="flower")["AccessKey"]
    made = Storage(endpoint, key["AccessKeyId"], key["SecretAccessKey"])
    made.client().create_bucket(Bucket="models")
    _post(f"{endpoint}/moto-api/reset-auth", b"0")
    return made


def _post(url: str, content: bytes = b"") -> None:
    urllib.request.urlopen(urllib.request.Request(url, content, {"Content-Type": "text/plain"}, method="POST"), timeout=10).close()
