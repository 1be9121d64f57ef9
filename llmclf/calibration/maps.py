"""Maps of label scores alone, by name: every calibrator that is not a pool."""

from __future__ import annotations

from .affine import MatrixCalibrator, VectorCalibrator
from .base import BaseCalibrator
from .one_vs_rest import BetaCalibrator, IsotonicCalibrator, PlattCalibrator
from .temperature import BiasTemperatureCalibrator, IdentityCalibrator, PriorCalibrator, TemperatureCalibrator
from .venn_abers import VennAbersCalibrator

SCORE_MAPS: dict[str, type[BaseCalibrator]] = {
    calibrator.name: calibrator
    for calibrator in (
        IdentityCalibrator,
        PriorCalibrator,
        TemperatureCalibrator,
        BiasTemperatureCalibrator,
        VectorCalibrator,
        MatrixCalibrator,
        PlattCalibrator,
        BetaCalibrator,
        IsotonicCalibrator,
        VennAbersCalibrator,
    )
}
