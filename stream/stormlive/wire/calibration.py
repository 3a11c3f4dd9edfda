"""What a camera's counts and pixels mean."""

import math

import msgspec

from stormlive.wire.text import one_line
from stormlive_sim.errors import InputError

CALIBRATION_LIMITS = {
    "pixel_size_nm": (1.0, 10_000.0, "nanometres per camera pixel in the sample"),
    "baseline_adu": (0.0, 65_535.0, "what the camera gives in the dark"),
    "photons_per_adu": (1e-4, 1e4, "photons per camera count"),
    "exposure_ms": (1e-3, 600_000.0, "milliseconds per frame"),
}


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What turns a camera's counts into photons and its pixels into nanometres."""

    pixel_size_nm: float
    baseline_adu: float
    photons_per_adu: float
    exposure_ms: float

    def __post_init__(self) -> None:
        for name, (low, high, meaning) in CALIBRATION_LIMITS.items():
            given = getattr(self, name)
            try:
                number = math.nan if isinstance(given, (str, bool)) else float(given)
            except (TypeError, ValueError):
                number = math.nan
            if not low <= number <= high:
                came = one_line(repr(given), 40)
                raise InputError(f"{name} must be a number from {low:g} to {high:g} ({meaning}), got {came}")
            msgspec.structs.force_setattr(self, name, number)
