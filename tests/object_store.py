"""A real server that speaks S3, on loopback, started for the tests and ended with them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import obstore
from obstore.store import from_url
from servers import free_port

BUCKET = "tables"


@contextmanager
def object_store() -> Iterator[Any]:
    """An empty bucket, whose address is ``s3://tables``; the environment names its server and its keys for the time."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    keys = {
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-tests",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    try:
        with mock.patch.dict(os.environ, keys):
            yield _bucket(port)
    finally:
        server.terminate()
        server.wait(30)


def _bucket(port: int) -> Any:
    import boto3
    from botocore.exceptions import EndpointConnectionError

    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    for _ in range(600):
        try:
            client.create_bucket(Bucket=BUCKET)
            break
        except EndpointConnectionError:
            time.sleep(0.1)
    store = from_url(f"s3://{BUCKET}")
    assert list(obstore.list(store)) == []
    return store
