"""OpenAI's endpoints for files and batches: a request file goes up, a batch is made of it, its answers come down as files."""

from __future__ import annotations

import urllib.parse
from typing import Any, BinaryIO

from ...http.file_transfers import Upload
from ...http.replies import mapping, sequence
from ...http.reply_limits import ReplyLimits
from .endpoints import BatchEndpoints
from .file_format import MARK, BatchState, ResultLine, read_id, read_result_line
from .store import BatchRecord


class FileBatches(BatchEndpoints):
    """``/files`` and ``/batches``. A batch is recognised by its file, and by a random mark in its metadata."""

    path = "/batches"

    async def upload(self, file: BinaryIO, name: str) -> str:
        file_id: str = await self.client.call("/files", Upload(file, name, "batch"), read_id)
        return file_id

    def creation(self, record: BatchRecord) -> dict[str, Any]:
        return {
            "input_file_id": record.file_id,
            "endpoint": f"/v1{record.path}",
            "completion_window": "24h",
            "metadata": {MARK: record.mark},
        }

    def read(self, reply: Any) -> BatchState:
        return BatchState.read(self.client.without_key(reply))

    def read_page(self, reply: Any) -> tuple[list[BatchState], str]:
        page = mapping(reply, "the list of batches")
        batches = [self.read(item) for item in sequence(page.get("data"), "data")]
        has_more = bool(page.get("has_more")) and bool(batches)
        return batches, f"&after={urllib.parse.quote(batches[-1].id, safe='')}" if has_more else ""

    def is_made_of(self, batch: BatchState, record: BatchRecord) -> bool:
        return batch.mark == record.mark or batch.input_file_id == record.file_id

    def content_path(self, batch: BatchState, file: str) -> str:
        return f"/files/{urllib.parse.quote(file, safe='')}/content"

    def read_line(self, raw: bytes, limits: ReplyLimits) -> ResultLine | None:
        return read_result_line(raw, limits)
