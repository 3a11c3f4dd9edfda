import json
import re
from datetime import UTC, datetime
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stormlive.output import preview
from stormlive.output.manifest import (
    CameraRecord,
    ModelRecord,
    RunPicture,
    prepare_folder,
    read_record,
    write_record,
    write_run,
)
from stormlive.output.ome_tiff import read_image
from stormlive_sim.errors import InputError

CAMERA = CameraRecord(
    pixel_size_nm=100.0,
    baseline_adu=100.0,
    photons_per_adu=0.5,
    exposure_ms=10.0,
    frame_shape=(32, 48),
    dtype="uint16",
)
CANVAS = np.zeros((256, 384), np.float32)
CANVAS[10, 20] = 2.5
WIDEFIELD = np.full((32, 48), 20.0, np.float32)


def write(folder: Path, **changes: object) -> list[Path]:
    picture: dict[str, Any] = {"n_frames": 361, "canvas": CANVAS, "widefield": WIDEFIELD}
    picture |= {name: changes.pop(name) for name in ("canvas", "extra_files") if name in changes}
    fields: dict[str, Any] = {
        "pictures": [RunPicture(**picture)],
        "upsampling": 8,
        "camera": CAMERA,
        "model": ModelRecord(name="livenet", weights_sha256="ab" * 32, card={"pixel_size_nm": 100.0}),
        "device": "cpu",
        "frames": {"live": 361, "replayed": 0, "missing": []},
        "timings_s": {"acquisition": 3.6},
        "latency_ms": {"p50": 12.0, "p99": 31.0},
        "started_at": datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
        "exit_status": "success",
        "summary": "361 of 361 frames.",
    }
    return write_run(folder, **{**fields, **changes})


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_a_run_leaves_its_files_and_a_record_that_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    paths = write(folder)
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()}
    assert paths[-1].name == "run.json"
    record = read_record(folder)
    assert {f.name: f.bytes for f in record.files} == {p.name: p.stat().st_size for p in paths[:-1]}
    assert record == read_record(paths[-1])
    assert record.canvas.shape == (256, 384)
    assert record.canvas.pixel_size_nm == 12.5
    assert record.canvas.sum == 2.5
    assert record.camera == CAMERA
    assert record.frames == {"live": 361, "replayed": 0, "missing": []}
    extras = {name for name in ("openvino", "pycromanager", "pymmcore") if next(Distribution.discover(name=name), None)}
    assert {"stormlive", "python", "torch", "numpy", "pyzmq", "os", *extras} == set(record.versions)
    assert all(record.versions.values())


def test_both_images_carry_their_own_pixel_size(tmp_path: Path) -> None:
    superres, widefield, *_ = write(tmp_path)
    for path, image, pixel_size_nm in ((superres, CANVAS, 12.5), (widefield, WIDEFIELD, 100.0)):
        back, back_nm = read_image(path)
        assert np.array_equal(back, image)
        assert back_nm == pytest.approx(pixel_size_nm)


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    write(tmp_path)
    record = read_record(tmp_path)
    write_record(tmp_path / "again.json", record)
    assert read_record(tmp_path / "again.json") == record
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "run.json").read_bytes()


def test_json_has_no_nan_and_takes_numpy_numbers(tmp_path: Path) -> None:
    write(
        tmp_path,
        latency_ms={"p50": float("nan"), "p99": float("inf")},
        timings_s={"acquisition": np.float32(1.5)},
        frames={"live": np.int64(3), "ranges": np.array([[0, 3]]), "ratio": float("nan")},
        canvas=np.full_like(CANVAS, np.nan),
    )
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    plain = json.loads(text, parse_constant=no_constant)
    assert plain["latency_ms"] == {"p50": None, "p99": None}
    assert plain["frames"] == {"live": 3, "ranges": [[0, 3]], "ratio": None}
    assert plain["timings_s"] == {"acquisition": 1.5}
    assert plain["canvas"]["sum"] is None
    assert read_record(tmp_path).latency_ms == {"p50": None, "p99": None}


def test_a_folder_with_a_run_is_refused_untouched(tmp_path: Path) -> None:
    write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for attempt in (lambda: write(tmp_path, summary="another"), lambda: prepare_folder(tmp_path)):
        with pytest.raises(InputError, match="already holds a run"):
            attempt()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_record_of_a_run_whose_files_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise InputError("cannot write preview.png")

    monkeypatch.setattr(preview, "write_preview", fail)
    with pytest.raises(InputError):
        write(tmp_path)
    assert not (tmp_path / "run.json").exists()
    monkeypatch.undo()
    write(tmp_path)
    assert read_record(tmp_path).exit_status == "success"


def test_extra_files_are_recorded(tmp_path: Path) -> None:
    table = tmp_path / "tables" / "localizations.csv"
    table.parent.mkdir()
    table.write_bytes(b"frame,x,y\n")
    assert table in write(tmp_path, extra_files=[table])
    assert [f.bytes for f in read_record(tmp_path).files if f.name == "tables/localizations.csv"] == [10]


def test_names_are_safe_on_windows(tmp_path: Path) -> None:
    for path in write(tmp_path):
        assert re.fullmatch(r"[a-z][a-z0-9_.]*[a-z]", path.name)


def test_a_canvas_that_does_not_fit_its_widefield_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8 times the widefield"):
        write(tmp_path, canvas=CANVAS[:-1])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot create the folder"):
        prepare_folder(tmp_path / "file" / "run")


def test_what_is_not_a_record_gets_one_line(tmp_path: Path) -> None:
    write(tmp_path)
    good = msgspec.json.decode((tmp_path / "run.json").read_bytes())
    for name, content in {
        "text.json": b"frames: 361",
        "list.json": b"[]",
        "newer.json": msgspec.json.encode({**good, "format": "stormlive-run-2"}),
        "typo.json": msgspec.json.encode({**good, "devise": "cpu"}),
        "short.json": msgspec.json.encode({k: v for k, v in good.items() if k != "camera"}),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="not a record of a run") as caught:
            read_record(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="give the folder of a finished run"):
        read_record(tmp_path / "none.json")
