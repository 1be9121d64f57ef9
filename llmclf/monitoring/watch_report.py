"""What a watch found: for programs, for tables, for Prometheus, and for people."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pandas as pd
from markupsafe import Markup

from ..pages import in_notebook, render_page, written

FINE = 0
SHIFTED = 3
BROKEN_PROMISE = 4
BROKEN_CALIBRATION = 5
EXPIRED = 6
"""Exit codes; 1 and 2 are those of any command: a failure, and an error of use."""
_CODES = {"promise": BROKEN_PROMISE, "calibration": BROKEN_CALIBRATION, "shift": SHIFTED, "expired": EXPIRED}
_UNUSED = {
    "n_unknown": "with an id of no decision under the certificate",
    "n_ambiguous": "with an id of several decisions that differ",
    "n_unanswered": "without an answer",
    "n_repeated": "given again",
}
_WIDTH, _HEIGHT = 640, 220


class WatchReport:
    """The report of a watch; made by `Watch.report`.

    Parameters
    ----------
    data : dict
        As `to_dict` gives it, without ``verdict`` and ``exit_code``.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    def __repr__(self) -> str:
        """Its verdict, in one line."""
        return f"<WatchReport: {self.verdict}>"

    def _repr_html_(self) -> str:
        return in_notebook(self.to_html(), self._title)

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """What was found, the most urgent first: ``kind`` ("promise", "calibration", "shift", "expired") and ``text``."""
        return list(self._data["alarms"])

    @property
    def actions(self) -> list[dict[str, Any]]:
        """What to do next, the most urgent first: ``kind``, ``text``, ``n_labels``, ``region``, ``threshold``."""
        return list(self._data["actions"])

    @property
    def left_out(self) -> list[str]:
        """What does not count, in words: decisions of others, and audited rows that belong to no decision, or to several."""
        audited = self._data["audited"]
        said = [one["text"] for one in self._data["left_out"]]
        if audited is not None:
            for name, what in _UNUSED.items():
                n = audited[name]
                said += [f"{n:,} audited {'row' if n == 1 else 'rows'} {what}"] if n else []
        return said

    @property
    def exit_code(self) -> int:
        """That of `llmclf watch`, by the first alarm: 0 fine, 3 a shift, 4 a broken promise, 5 broken calibration, 6 expired."""
        alarms = self._data["alarms"]
        return _CODES[alarms[0]["kind"]] if alarms else FINE

    @property
    def verdict(self) -> str:
        """All of it in a few sentences."""
        if self._data["alarms"]:
            return " ".join(alarm["text"] for alarm in self._data["alarms"])
        n, audited = self._data["rows"]["n"], self._data["audited"]
        if not n:
            return "No alarm: there are no decisions yet."
        rows = "1 row is" if n == 1 else f"{n:,} rows are"
        text = f"No alarm: {rows} like those of the certificate; "
        if not self._data["shifts"]:
            text = f"No alarm: {rows} not compared with the certificate's, which were drawn unevenly; "
        if audited is None or not audited["n_accepted"]:
            return f"{text}no {'accepted ' if audited is not None else ''}row is audited yet."
        error = audited["error"]
        return (
            f"{text}{audited['n_wrong']} of {audited['n_accepted']:,} audited accepted rows are wrong ({error['low']:.1%} to "
            f"{error['high']:.1%}), and at most {self._data['certificate']['max_error']:.4g} was promised."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; see docs/reference/file-formats.md."""
        return {**self._data, "verdict": self.verdict, "exit_code": self.exit_code}

    def to_frame(self) -> pd.DataFrame:
        """One line per test: what it looks at, its rows, its e-value (as a logarithm), the alarm's, and whether it was raised."""
        lines = [
            {"test": f"shift of {shift['name']}", **_line(shift), "distance": shift["distance"]}
            for shift in self._data["shifts"]
        ]
        audited = self._data["audited"]
        if audited is not None:
            lines += [{"test": name, **_line(audited[name]), "distance": None} for name in ("promise", "calibration")]
        columns = ["test", "n", "log_e_value", "largest_log_e_value", "log_threshold", "alarm_row", "distance"]
        return pd.DataFrame(lines, columns=columns)

    def gauges(self) -> dict[str, float]:
        """The numbers for Prometheus, by name; evidence is in natural logarithms, and what is unknown is left out.

        Examples
        --------
        ``llmclf_watch_shift_log_e_value_confidence`` of 5 with ``llmclf_watch_shift_log_threshold_confidence`` of 4.8 has raised
        ``llmclf_watch_shift_alarm_confidence`` to 1.
        """
        data, values = self._data, dict[str, float | None]()
        values["exit_code"] = self.exit_code
        values["rows"], values["rows_without_answer"] = data["rows"]["n"], data["rows"]["n_errors"]
        values["certificate_expired"] = data["certificate"]["is_expired"]
        values["promised_error"] = data["certificate"]["max_error"]
        for shift in data["shifts"]:
            name = shift["name"]
            values[f"shift_log_e_value_{name}"] = shift["log_e_value"]
            values[f"shift_log_threshold_{name}"] = shift["log_threshold"]
            values[f"shift_alarm_{name}"] = shift["alarm"] is not None
            values[f"shift_distance_{name}"] = shift["distance"]
            values[f"mean_{name}"] = shift["recent_mean"]
            values[f"certificate_mean_{name}"] = shift["reference_mean"]
        for number, one in enumerate(data["classes"]):
            values[f"class_share_{number}"] = one["predicted"]
            values[f"certificate_class_share_{number}"] = one["reference_predicted"]
        audited = data["audited"]
        if audited is not None:
            values["audited_rows"] = audited["n_used"]
            values["audited_accepted_rows"], values["audited_wrong_rows"] = audited["n_accepted"], audited["n_wrong"]
            for end in ("value", "low", "high"):
                values[f"accepted_error_{end}"] = audited["error"][end]
            for name in ("promise", "calibration"):
                values[f"{name}_log_e_value"] = audited[name]["log_e_value"]
                values[f"{name}_log_threshold"] = audited[name]["log_threshold"]
                values[f"{name}_alarm"] = audited[name]["alarm"] is not None
        return {f"llmclf_watch_{name}": float(value) for name, value in values.items() if value is not None}

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as one page that loads nothing; also written to a file if a path is given.

        Raises
        ------
        StoreError
            The file cannot be written.
        """
        folder = resources.files(__package__) / "templates"
        audited = self._data["audited"]
        curves = (
            {}
            if audited is None
            else {
                name: Markup(_curve(audited["history"][name], audited[name]["log_threshold"], title))
                for name, title in (
                    ("promise", "Evidence against the promise"),
                    ("calibration", "Evidence against calibration"),
                )
                if audited["history"][name]
            }
        )
        page = render_page(
            folder,
            "watch.html.j2",
            style="watch.css",
            script=None,
            title=self._title,
            data=self.to_dict(),
            left_out=self.left_out,
            curves=curves,
            percent=_percent,
            short=_short,
            evidence=_evidence,
            moment=_moment,
        )
        return written(page, path)

    @property
    def _title(self) -> str:
        identity = self._data["certificate"]["id"]
        return "Watch" if identity is None else f"Watch of certificate {identity}"


def _line(test: Mapping[str, Any]) -> dict[str, Any]:
    names = ("n", "log_e_value", "largest_log_e_value", "log_threshold")
    return {
        **{name: test[name] for name in names},
        "alarm_row": None if test["alarm"] is None else test["alarm"]["row"],
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _evidence(log_value: float) -> str:
    """A capital as a number that can be read; what is above a million is called so."""
    return f"{math.exp(log_value):.3g}" if log_value < math.log(1e6) else "above 10⁶"


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "–"


def _curve(points: list[list[float]], threshold: float, title: str) -> str:
    """The capital over the audited rows, on a logarithmic scale, with the line that raises the alarm; only numbers go into it."""
    top = max(threshold, *(value for _, value in points)) + 0.5
    bottom = min(-1.0, *(value for _, value in points)) - 0.2
    last = max(points[-1][0], 2)
    left, right, above, below = 56, 12, 10, 34

    def x(row: float) -> float:
        return left + (row - 1) / (last - 1) * (_WIDTH - left - right)

    def y(value: float) -> float:
        return above + (top - value) / (top - bottom) * (_HEIGHT - above - below)

    line = " ".join(f"{x(row):.1f},{y(value):.1f}" for row, value in points)
    powers = range(math.ceil(bottom / math.log(10)), math.floor(top / math.log(10)) + 1)
    step = max(1, len(powers) // 6)
    ticks = "".join(
        f'<text class="tick" x="{left - 8}" y="{y(power * math.log(10)) + 4:.1f}" text-anchor="end">10<tspan dy="-5" '
        f'class="power">{power}</tspan></text>'
        for power in powers
        if power % step == 0
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>'
        f'<line class="axis" x1="{left}" x2="{left}" y1="{above}" y2="{_HEIGHT - below}"/>'
        f'<line class="axis" x1="{left}" x2="{_WIDTH - right}" y1="{_HEIGHT - below}" y2="{_HEIGHT - below}"/>'
        f'<line class="limit" x1="{left}" x2="{_WIDTH - right}" y1="{y(threshold):.1f}" y2="{y(threshold):.1f}"/>'
        f'<text class="limit-name" x="{_WIDTH - right}" y="{y(threshold) - 5:.1f}" text-anchor="end">alarm</text>'
        f'<polyline class="curve" points="{line}"/>{ticks}'
        f'<text class="tick" x="{left}" y="{_HEIGHT - 12}">1</text>'
        f'<text class="tick" x="{_WIDTH - right}" y="{_HEIGHT - 12}" text-anchor="end">{points[-1][0]} audited rows</text></svg>'
    )
