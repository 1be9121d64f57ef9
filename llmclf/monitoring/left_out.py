"""Decisions that are there and do not count, since they were not made under the certificate by the model that is watched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["certificate", "model"]


@dataclass(frozen=True)
class LeftOut:
    """Rows that are left out.

    Attributes
    ----------
    kind : {"certificate", "model"}
        Whether they were decided under another certificate, or by another model under the same one.
    name : str or None
        Of that certificate or model; None: under no certificate.
    n_rows : int
    """

    kind: Kind
    name: str | None
    n_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the report, with the same in words as ``text``.

        Examples
        --------
        >>> LeftOut("certificate", "4f1c", 1200).to_dict()["text"]
        '1,200 rows decided under the certificate 4f1c'
        """
        rows = "1 row" if self.n_rows == 1 else f"{self.n_rows:,} rows"
        how = "by" if self.kind == "model" else "under"
        where = named(self.kind, self.name)
        return {
            **asdict(self),
            "text": f"{rows} decided {how} {where if self.name is None else f'the {self.kind} {where}'}",
        }


def named(kind: Kind, name: str | None) -> str:
    """A certificate or model in words."""
    return name or f"no {kind}"
