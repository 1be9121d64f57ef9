"""Whether a model's weights fit the memory: what is decoded once has to, what stays in its file need only be read again."""

from __future__ import annotations

from pathlib import Path

from ....errors import ModelError

_HALF = 0.5
"""Of the free memory: what decoded weights may take where nobody has said how the model is opened."""

_CONTROL_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""The files of the second and of the first version of control groups, by which containers limit memory; and what memory.stat
calls the files that are in memory only until something else needs the place."""


def free_memory() -> int:
    """Bytes that can be had without swapping, within the limit of a container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit = _container_limit()
    return free if limit is None else min(free, max(0, limit[0] - limit[1]))


def all_memory() -> tuple[int, int]:
    """Bytes of memory, within the limit of a container, and of swap."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _container_limit()
    return total if limit is None else min(total, limit[0]), int(psutil.swap_memory().total)


def _container_limit() -> tuple[int, int] | None:
    """Bytes that this container may have, and those that it uses."""
    for folder, limit, use, idle in _CONTROL_GROUPS:
        try:
            most, used, facts = ((Path(folder) / name).read_text() for name in (limit, use, "memory.stat"))
            counts = dict(line.split() for line in facts.splitlines())
            return int(most), int(used) - int(counts.get(idle, 0))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def should_stay_in_file(n_decoded: int) -> bool:
    """Whether so many bytes of decoded weights are more than half of the free memory."""
    return n_decoded > _HALF * free_memory()


def check_fits(what: str, n_bytes: int, cure: str) -> None:
    """Refuse what is larger than all memory and swap; `what` begins the sentence that gives its size.

    Raises
    ------
    ModelError
    """
    memory, swap = all_memory()
    if n_bytes > memory + swap:
        raise ModelError(
            f"{what} {gigabytes(n_bytes)}, and this machine has {gigabytes(memory)} of memory and {gigabytes(swap)} of swap; "
            f"{cure}"
        )


def gigabytes(n_bytes: int) -> str:
    """A size as messages give it."""
    return f"{n_bytes / 1e9:,.1f} GB"
