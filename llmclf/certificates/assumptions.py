"""What a certificate assumes, in plain words."""

from __future__ import annotations

from .content import Attempts, Guarantee, JudgedRows, Part


def assumptions(rows: JudgedRows, guarantee: Guarantee, parts: list[Part], attempts: Attempts) -> list[str]:
    """One sentence or two for each thing that the promise rests on, or does not say."""
    drawn = "with the probabilities that were given" if rows.is_uneven else "at random"
    said = [
        f"The {rows.n} judged rows were drawn {drawn} from the rows that the classifier will meet, and their classes are true. "
        "Nothing in the numbers can show that.",
        "The rows to come are like those that were judged. If their source, their subjects or their classes change, the promise "
        "ends, whatever the date; llmclf watch looks for that.",
        "The same model answers, with the same prompt, calibration and threshold. llmclf verify asks the canary rows again and "
        "says so.",
        "Nothing was fitted on the judged rows. Rows whose text is that of an example, whatever its case and spaces, or letter "
        "by letter that of a row that calibrator or threshold have seen were refused. Other copies of the latter cannot be "
        "recognised, since only hashes of those rows are kept.",
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
        f"is known of each, in {len(parts)} statements that hold together: each is corrected for the number of all, those of "
        f"{_listed(list(dict.fromkeys(one.partition for one in parts)))}. To look at other groups of these rows is a further "
        "attempt."
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
    said.append(_attempts(attempts, guarantee))
    if attempts.n_judged_before:
        said.append(
            f"{attempts.n_judged_before} of the rows were judged before; they count as wrong where they are accepted, so that "
            "nothing was gained by their choice."
        )
    if rows.n_unscored:
        said.append(f"Rows that cannot be scored ({rows.n_unscored} of the judged ones) are never accepted.")
    return said


def _listed(partitions: list[str]) -> str:
    """The ways to part the rows, in words."""
    if len(partitions) == 1:
        return f"the {partitions[0]}"
    return f"the {', '.join(map(repr, partitions[:-1]))} and {partitions[-1]!r}"


def _attempts(attempts: Attempts, guarantee: Guarantee) -> str:
    """How often it was tried, and what that means for the confidence."""
    kept = "Attempts on other copies of the classifier, whose record is elsewhere, are not counted."
    if attempts.n == 1:
        return f"It was the first attempt to certify here. {kept}"
    said = (
        f"It was attempt {attempts.n} to certify here; {attempts.n_not_shown} earlier ones did not show what was asked."
    )
    if attempts.n_sharing:
        said += (
            f" {attempts.n_sharing} shared rows with this one, and so share its confidence: it was judged with confidence "
            f"{1.0 - attempts.level:.4g}, so that none of them promises too much with confidence {guarantee.confidence:.4g}."
        )
    if attempts.confidence_of_all < guarantee.confidence:
        said += (
            " Those on other rows were draws of their own. That no attempt so far promised too much has a confidence of "
            f"{attempts.confidence_of_all:.4g}: whoever draws new rows until some pass will succeed some day."
        )
    return f"{said} {kept}"
