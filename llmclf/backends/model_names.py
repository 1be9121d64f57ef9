"""The names that servers give to the models that answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelName:
    """What a server says of the model that answers.

    Attributes
    ----------
    model : str or None
        Its own name for it; None where it does not say.
    fingerprint : str or None
        A word for the version and configuration in which the server runs it (``system_fingerprint``).

    Examples
    --------
    >>> str(ModelName("tiny", "fp_1")), ModelName("tiny").is_same(ModelName("tiny", "fp_1"))
    ('tiny (fp_1)', True)
    """

    model: str | None = None
    fingerprint: str | None = None

    def __str__(self) -> str:
        """Name and fingerprint; an empty text where nothing is known."""
        if self.fingerprint is None:
            return self.model or ""
        return f"{self.model} ({self.fingerprint})" if self.model is not None else self.fingerprint

    def is_same(self, other: ModelName) -> bool:
        """Whether nothing that both know says that these are two models."""
        pairs = ((self.model, other.model), (self.fingerprint, other.fingerprint))
        return all(one is None or two is None or one == two for one, two in pairs)

    def known_with(self, other: ModelName) -> ModelName:
        """What is known of it, with what only another reply says."""
        return ModelName(
            other.model if self.model is None else self.model,
            other.fingerprint if self.fingerprint is None else self.fingerprint,
        )
