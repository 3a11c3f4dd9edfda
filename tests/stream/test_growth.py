"""How a canvas grew: bounded, kept through a kill, written for other programs, and played."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from stormlive.output import growth as growth_module
from stormlive.output.growth import LEAST_VALUE, Growth, write_growth
from stormlive.server import closing, recovery
from stormlive.server.protocols import Canvas
from stormlive.viewer.saved_replay import SavedReplay
from stormlive_sim.errors import InputError

SHAPE = (30, 50)


def grown(n: int, *, step: int = 10) -> tuple[Growth, list[np.ndarray]]:
    """Return the growth of a canvas that was looked at `n` times, and what was seen."""
    generator = np.random.default_rng(0)
    growth, canvas, seen = Growth(SHAPE), np.zeros(SHAPE, np.float32), []
    for k in range(1, n + 1):
        light = generator.poisson(0.1, SHAPE) * generator.random(SHAPE)
        canvas = canvas + (light + 1e-4 * generator.random(SHAPE)).astype(np.float32)
        growth.add(canvas, k * step)
        seen.append(canvas)
    return growth, seen


def test_the_sum_of_the_stretches_is_the_canvas_at_the_end_of_each() -> None:
    growth, seen = grown(40)
    assert growth.frames == [10 * (k + 1) for k in range(40)]
    total = np.zeros(SHAPE, np.float32)
    for picture, canvas in zip(growth.pictures(), seen, strict=True):
        total += picture
        np.testing.assert_allclose(total, canvas, rtol=1e-3, atol=LEAST_VALUE)
    growth.add(seen[-1], 400, last=True)
    assert growth.frames == [10 * (k + 1) for k in range(40)]
    assert_whole(growth, seen[-1])


def test_what_one_stretch_cannot_hold_comes_with_the_next() -> None:
    growth, canvas = Growth(SHAPE), np.full(SHAPE, 1e5, np.float32)
    growth.add(canvas, 1)
    growth.add(canvas, 2)
    assert_whole(growth, canvas)
    growth.add(canvas - 1e5, 3)
    growth.add(canvas - 1e5, 4)
    assert_whole(growth, canvas - 1e5)


def assert_whole(growth: Growth, canvas: np.ndarray) -> None:
    total = np.zeros(SHAPE, np.float32)
    for picture in growth.pictures():
        total += picture
    np.testing.assert_array_almost_equal_nulp(total, canvas, nulp=2)


def test_stretches_and_their_bytes_are_bounded_and_the_sum_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    growth, seen = grown(700)
    assert growth_module.MOST_STRETCHES / 2 <= len(growth.frames) <= growth_module.MOST_STRETCHES
    lengths = np.diff([0, *growth.frames])
    assert lengths.max() <= 4 * lengths.min()
    growth.add(seen[-1], 7000, last=True)
    assert growth.frames[-1] == 7000
    assert_whole(growth, seen[-1])

    monkeypatch.setattr(growth_module, "MOST_BYTES", 15_000)
    growth, seen = grown(300)
    growth.keep_within(5_000)
    assert sum(stretch.nbytes for stretch in growth.stretches) <= 5_000
    there = seen[growth.frames[-1] // 10 - 1]
    np.testing.assert_allclose(sum(growth.pictures()), there, rtol=1e-3, atol=LEAST_VALUE)
    growth, seen = grown(300)
    assert 2 <= len(growth.stretches) < 10
    assert sum(stretch.nbytes for stretch in growth.stretches) <= 15_000
    growth.add(seen[-1], 3000, last=True)
    assert_whole(growth, seen[-1])


def test_it_goes_on_from_a_snapshot_without_what_the_canvas_does_not_have() -> None:
    growth, seen = grown(40)
    again = Growth.restored(SHAPE, growth.snapshot(205))
    assert again.frames == growth.frames[:20]
    np.testing.assert_allclose(sum(again.pictures()), seen[19], rtol=1e-3, atol=LEAST_VALUE)
    again.add(seen[30], 310)
    assert again.frames[-1] == 310
    np.testing.assert_allclose(sum(again.pictures()), seen[30], rtol=1e-3, atol=LEAST_VALUE)
    assert Growth.restored(SHAPE, growth.snapshot(5)).frames == []


def test_a_checkpoint_has_how_each_canvas_grew() -> None:
    growths = {0: grown(40), 2: grown(30)}
    canvases = [Canvas(reconstruction=SimpleNamespace(upsampling=2), table=None) for _ in range(3)]
    for number, (growth, _) in growths.items():
        canvases[number].growth = growth
    start, moments = SimpleNamespace(shape=(15, 25)), [SimpleNamespace(n_frames=n) for n in (205, 0, 100)]
    moment = SimpleNamespace(start=start, canvases=moments)
    arrays = closing._grown(SimpleNamespace(canvases=SimpleNamespace(all=canvases)), moment)
    again = [Canvas(reconstruction=SimpleNamespace(upsampling=2), table=None) for _ in range(3)]
    recovery._restore_growth(SimpleNamespace(moment=moment, arrays=arrays), SimpleNamespace(all=again, first=again[0]))
    assert again[1].growth is None
    for number, n in ((0, 20), (2, 10)):
        assert again[number].growth.frames == growths[number][0].frames[:n]
        expected = growths[number][1][n - 1]
        np.testing.assert_allclose(sum(again[number].growth.pictures()), expected, rtol=1e-3, atol=LEAST_VALUE)


def test_other_programs_open_it_and_every_place_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth, seen = grown(12)
    path = tmp_path / "replay.ome.tif"
    write_growth(path, growth, 12.5, "120 frames")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "TYX"
        pages = tiff.series[0].asarray()
        assert 'PhysicalSizeX="0.0125"' in tiff.ome_metadata
        assert "10, 20, 30" in tiff.ome_metadata
    assert (pages == np.array(list(growth.pictures()))).all()
    for kept in (2**20, 3 * seen[0].nbytes, 1):
        monkeypatch.setattr("stormlive.viewer.saved_replay._KEPT_BYTES", kept)
        replay = SavedReplay(path, growth.frames, seen[-1])
        for place in (0, 5, 4, 11, 10, 1, 7, 0, 3):
            np.testing.assert_allclose(replay.canvas(place), seen[place], rtol=1e-3, atol=LEAST_VALUE)
        assert replay.canvas(11) is seen[-1]
        replay.close()


def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    growth, seen = grown(4)
    path = tmp_path / "replay.ome.tif"
    write_growth(path, growth, 12.5, "")
    with pytest.raises(InputError, match="4 pages"):
        SavedReplay(path, growth.frames[:3], seen[-1])
    other = SavedReplay(path, growth.frames, seen[-1][:, :20])
    with pytest.raises(InputError, match=r"expected float32 pages \(30, 20\)"):
        other.canvas(1)
    other.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        SavedReplay(path, growth.frames, seen[-1])
