import math

import numpy as np
import pytest

from stormlive.wire.calibration import Calibration
from stormlive_sim.errors import InputError

GOOD = {"pixel_size_nm": 100.0, "baseline_adu": 0.0, "photons_per_adu": 0.46, "exposure_ms": 30}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e9, "100", None, True, [1]])
def test_the_bad_field_is_named(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{name} must be a number") as caught:
        Calibration(**{**GOOD, name: value})
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_taken() -> None:
    given_numbers = Calibration(**{name: np.float32(value) for name, value in GOOD.items()})
    assert all(type(getattr(given_numbers, name)) is float for name in GOOD)
    Calibration(**{**GOOD, "baseline_adu": np.uint16(100)})
