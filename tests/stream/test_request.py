"""From what a person asks for to a session: what the command line and the window have in common."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stormlive.acquire.request import Microscope, Movie, RunRequest, Simulated, parse_region
from stormlive.cli.cameras import sample
from stormlive.cli.prepare import prepare
from stormlive.wire.calibration import Calibration
from stormlive_sim.errors import InputError

CALIBRATION = Calibration(pixel_size_nm=120, baseline_adu=90, photons_per_adu=0.25, exposure_ms=50)


@pytest.fixture
def request_for(tmp_path: Path) -> RunRequest:
    movie = tmp_path / "movie.tif"
    tifffile.imwrite(movie, np.full((7, 32, 32), 100, np.uint16))
    return RunRequest(source=Movie(path=movie), calibration=CALIBRATION, model="small", out=tmp_path / "run")


def test_a_movie_is_played_whole_and_never_beyond_its_end(request_for: RunRequest) -> None:
    session = prepare(request_for, device="cpu")
    assert session.acquisition.n_frames == 7
    assert session.acquisition.exposure_ms == CALIBRATION.exposure_ms
    camera = session.acquisition.camera
    assert camera is not None
    assert camera().shape == (32, 32)
    assert prepare(replace(request_for, n_frames=3), device="cpu").acquisition.n_frames == 3
    with pytest.raises(InputError, match="has 7 frames"):
        prepare(replace(request_for, n_frames=8), device="cpu")


def test_raw_data_goes_to_the_runs_folder_or_nowhere(request_for: RunRequest) -> None:
    assert prepare(request_for, device="cpu").acquisition.out == request_for.out
    assert prepare(replace(request_for, save_raw=False), device="cpu").acquisition.out is None


def test_a_region_beside_the_frames_is_refused_before_anything_starts(request_for: RunRequest, tmp_path: Path) -> None:
    beside = replace(request_for, region=(30, 0, 64, 64))
    microscope = replace(beside, source=Microscope(config=tmp_path / "scope.cfg"))
    cut = {"roi": (8, 8, 24, 20)}
    for asked, frames in (
        (beside, "32x32"),
        (replace(beside, source=Simulated(shape=(32, 32))), "32x32"),
        (replace(beside, **cut), "24x20"),
        (replace(microscope, **cut), "24x20"),
    ):
        with pytest.raises(InputError, match=f"a region inside frames of {frames} pixels"):
            prepare(asked, device="cpu")
    assert prepare(replace(beside, roi=None, region=(16, 16, 16, 16)), device="cpu").region == (16, 16, 16, 16)
    assert prepare(microscope, device="cpu").region == beside.region, "its frames are not known yet"


@pytest.mark.parametrize("roi", [(0, 20, 32, 13), (0, 0, 33, 16), (4, 4, 16, 15)])
def test_a_roi_beside_the_sensor_is_refused_before_anything_starts(
    request_for: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roi: tuple[int, int, int, int]
) -> None:
    monkeypatch.setattr("stormlive.cli.cameras.refuse_too_fast", pytest.fail)
    asked = replace(request_for, roi=roi)
    for source in (asked.source, Simulated(shape=(32, 32))):
        with pytest.raises(InputError, match=r"the ROI \d.* of 32x32 pixels: .* X \+ WIDTH may be 32 at most"):
            prepare(replace(asked, source=source), device="cpu")
    microscope = Microscope(config=tmp_path / "scope.cfg")
    assert prepare(replace(asked, source=microscope), device="cpu").acquisition.roi == roi, (
        "its sensor is not known yet"
    )


def test_a_microscope_is_left_to_its_configuration(request_for: RunRequest, tmp_path: Path) -> None:
    source = Microscope(config=tmp_path / "scope.cfg", mm_dir=tmp_path)
    asked = prepare(replace(request_for, source=source, roi=(1, 2, 3, 4)), device="cpu").acquisition
    assert (asked.camera, asked.mm_config, asked.mm_dir) == (None, source.config, source.mm_dir)
    assert asked.roi == (1, 2, 3, 4)
    assert asked.n_frames > 0


@pytest.mark.parametrize("scene", ["microtubules", "everything"])
def test_a_simulated_camera_is_as_its_calibration_says(scene: str) -> None:
    settings = sample(Simulated(shape=(24, 40), scene=scene), CALIBRATION)
    assert settings.shape == (24, 40)
    assert settings.pixel_size_nm == CALIBRATION.pixel_size_nm
    assert settings.sensor.baseline_adu == CALIBRATION.baseline_adu
    sensor = settings.sensor
    assert sensor.electrons_per_adu / (sensor.em_gain * sensor.qe) == pytest.approx(CALIBRATION.photons_per_adu)
    # Half of the photons of an emitter in half of the time.
    longer = sample(Simulated(shape=(24, 40), scene=scene), Calibration(**{**_fields(), "exposure_ms": 100}))
    assert longer.blinking.photons_per_ms == pytest.approx(settings.blinking.photons_per_ms / 2)


def _fields() -> dict[str, float]:
    return {name: getattr(CALIBRATION, name) for name in CALIBRATION.__struct_fields__}


def test_an_unknown_scene_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.toml"):
        sample(Simulated(shape=(24, 40), scene=str(tmp_path / "missing.toml")), CALIBRATION)


def test_a_region_is_four_numbers() -> None:
    assert parse_region("128, 0,256,64") == (128, 0, 256, 64)
    for text in ("", "1,2,3", "1,2,3,4,5", "1,2,3,-4", "1 2 3 4", "a,b,c,d"):
        with pytest.raises(InputError, match="X,Y,WIDTH,HEIGHT"):
            parse_region(text)
