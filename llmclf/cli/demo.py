"""`llmclf demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .console import OUT, say, say_aside
from .options import Model


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the reliability diagram goes (PNG).")] = Path(
        "reliability.png"
    ),
    page: Annotated[Path, typer.Option("--report", metavar="FILE", help="Where the report goes (HTML).")] = Path(
        "report.html"
    ),
    model: Model = "smollm2",
    calibration_rows: Annotated[int, typer.Option(min=20, help="Labelled reviews for the calibrator.")] = 300,
    test_rows: Annotated[int, typer.Option(min=20, max=2000, help="Held-out reviews to measure on.")] = 1000,
) -> None:
    """Classify real film reviews with a small model, before and after calibration, and pooled. Takes two minutes on two cores."""
    from ..demo import run_demo

    result = run_demo(
        output,
        page=page,
        model=model,
        n_calibration=calibration_rows,
        n_test=test_rows,
        report=lambda line: say_aside(f"{line} ...", style="dim"),
    )
    table = Table(title=f"{result.n_test} held-out reviews, calibrated on {result.n_calibration}")
    for heading in ("", "before", "after", "pooled"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, title in (("accuracy", "accuracy"), ("log_loss", "log loss (nats)"), ("ece", "calibration error (ECE)")):
        table.add_row(title, *(f"{measured[name]:.3f}" for measured in (result.before, result.after, result.pooled)))
    OUT.print(table)
    shifts = ", ".join(f"{label} {value:+.2f}" for label, value in result.bias.items())
    say(
        f"after: temperature {result.temperature:.2f}, bias {shifts}; pooled: with hidden states and words (features='auto')"
    )
    say(result.verdict)
    say(f"{result.rows_per_second:.1f} rows/s; reliability diagram: {output}")
    say(f"report: {page.resolve()}")
