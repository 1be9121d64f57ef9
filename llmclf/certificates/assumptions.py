"""What a certificate assumes, in plain words."""

from __future__ import annotations

from .content import Guarantee, JudgedRows


def assumptions(rows: JudgedRows, guarantee: Guarantee, n_parts: int) -> list[str]:
    """One sentence or two for each thing that the promise rests on, or does not say."""
    drawn = "with the probabilities that were given" if rows.is_uneven else "at random"
    said = [
        f"The {rows.n} judged rows were drawn {drawn} from the rows that the classifier will meet, and their classes are true. "
        "Nothing in the numbers can show that.",
        "The rows to come are like those that were judged. If their source, their subjects or their classes change, the promise "
        "ends, whatever the date; llmclf watch looks for that.",
        "The same model answers, with the same prompt, calibration and threshold. llmclf verify asks the canary rows again and "
        "says so.",
        "Nothing was fitted on the judged rows. Rows whose text is, letter by letter, that of an example or of a row that "
        "calibrator or threshold have seen were refused; other copies of such rows cannot be recognised.",
    ]
    if guarantee.threshold_from == "before":
        said.append(
            "The threshold was there before these rows were looked at, so the bound on the error is exact (Clopper and Pearson)."
        )
    else:
        said.append(
            "The threshold was chosen on the judged rows. All thresholds were tried, and the bound allows for that; the numbers "
            "of single classes and groups do not."
        )
    chance = 100.0 * (1.0 - guarantee.confidence)
    said.append(
        f"The confidence is about the draw of the judged rows: of 100 such certificates, about {chance:.3g} may promise too much."
    )
    said.append(
        "The promise is about all accepted rows together, and not about each class or group; the table of these says what "
        f"is known of each, in {n_parts} statements that hold together."
    )
    if rows.is_grouped:
        said.append(
            f"Rows that belong together, such as copies of a text, count as one ({rows.n_groups} independent groups). Where "
            "groups are of different sizes, the numbers are approximate."
        )
    if rows.is_uneven:
        said.append(
            f"Rows that were drawn more often than others were left out at random: {rows.n_even} of them count as drawn with the "
            "same probability."
        )
    if rows.n_unscored:
        said.append(f"Rows that cannot be scored ({rows.n_unscored} of the judged ones) are never accepted.")
    return said
