import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stormlive.output.display import scale_bar_nm
from stormlive.output.preview import Panel, render_canvas, write_preview, write_side_by_side
from stormlive_sim.errors import InputError


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture)


def longest_white_run(rgb: np.ndarray) -> int:
    white = (rgb == 255).all(axis=2)
    longest = 0
    for row in white:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        longest = max([longest, *(edges[1::2] - edges[::2])])
    return int(longest)


def test_an_empty_canvas_is_black() -> None:
    rgb = render_canvas(np.zeros((40, 60), np.float32))
    assert rgb.shape == (40, 60, 3)
    assert rgb.dtype == np.uint8
    assert rgb.max() < 8


def test_nan_and_infinity_are_drawn_as_nothing() -> None:
    canvas = np.zeros((9, 9), np.float32)
    canvas[4, 4] = 2
    clean = render_canvas(canvas)
    canvas[0, 0], canvas[0, 1], canvas[0, 2], canvas[0, 3] = np.nan, np.inf, -np.inf, -5
    assert np.array_equal(render_canvas(canvas), clean)
    assert render_canvas(np.full((9, 9), np.nan, np.float32)).max() < 8


def test_a_lone_localization_is_seen_however_large_the_canvas() -> None:
    canvas = np.zeros((5000, 3000), np.float32)
    canvas[4321, 1234] = 1e-3
    rgb = render_canvas(canvas)
    assert max(rgb.shape[:2]) <= 2048
    lit = np.argwhere(rgb.max(axis=2) > 200)
    assert lit.tolist() == [[4321 // 3, 1234 // 3]]


def test_brighter_values_are_never_darker_and_gamma_lifts_the_faint() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    grey = render_canvas(ramp, colormap="gray", gamma=1.0)[..., 0].ravel().astype(int)
    lifted = render_canvas(ramp, colormap="gray", gamma=0.5)[..., 0].ravel().astype(int)
    assert (np.diff(grey) >= 0).all()
    assert (lifted >= grey).all()
    assert lifted[64] > grey[64] + 40


@pytest.mark.parametrize(
    ("shape", "pixel_size_nm", "nm_per_px"),
    [
        ((512, 512), 12.5, 12.5),
        ((64, 64), 12.5, 12.5 / 8),
        ((4096, 4096), 12.5, 25.0),
        ((600, 900), 7.3, 7.3),
    ],
)
def test_scale_bar_has_its_length(
    tmp_path: Path, shape: tuple[int, int], pixel_size_nm: float, nm_per_px: float
) -> None:
    write_preview(tmp_path / "p.png", np.zeros(shape, np.float32), pixel_size_nm)
    rgb = read_png(tmp_path / "p.png")
    expected = scale_bar_nm(rgb.shape[1] * nm_per_px / 4) / nm_per_px
    assert longest_white_run(rgb) == pytest.approx(expected, abs=1)


def test_row_0_is_on_top_and_x_runs_to_the_right(tmp_path: Path) -> None:
    canvas = np.zeros((600, 800), np.float32)
    canvas[2:6, 780:790] = 1
    write_preview(tmp_path / "p.png", canvas, 12.5)
    rgb = read_png(tmp_path / "p.png")
    assert rgb.shape == (600, 800, 3)
    assert rgb[2:6, 780:790].min(axis=(0, 1)).max() > 200
    assert rgb[:300, :400].max() < 8


@pytest.mark.parametrize("shape", [(1, 1), (2, 700), (700, 2), (1, 9000)])
def test_odd_shapes_get_a_picture(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = np.ones(shape, np.float32)
    write_preview(tmp_path / "p.png", image, 12.5)
    write_side_by_side(tmp_path / "s.png", [Panel("a", image, 12.5)])
    assert max(read_png(tmp_path / "p.png").shape) <= 2048


def test_side_by_side_shows_the_same_place_at_the_same_place(tmp_path: Path) -> None:
    fine = np.zeros((512, 512), np.float32)
    coarse = np.zeros((64, 64), np.float32)
    fine[100:108, 300:308] = 1
    coarse[100 // 8, 300 // 8] = 1
    fine[104:108, 304:308] = 0
    coarse[12, 37] = 1
    fine[96:104, 296:304] = 1
    panels = [
        Panel("Widefield", coarse, 100.0, "gray"),
        Panel("Super-resolved", fine, 12.5),
        Panel("Truth", fine, 12.5, blur_nm=10),
    ]
    write_side_by_side(tmp_path / "s.png", panels)
    rgb = read_png(tmp_path / "s.png").astype(int)
    height, width, _ = rgb.shape
    margin = 12
    assert width == 3 * 512 + 4 * margin
    top = height - margin - 512
    centres = []
    for index in range(3):
        left = margin + index * (512 + margin)
        upper_half = rgb[top : top + 256, left : left + 512].sum(axis=2)
        centres.append(np.argwhere(upper_half > 200).mean(axis=0))
    assert centres[0] == pytest.approx(centres[1], abs=5)
    assert centres[1] == pytest.approx(centres[2], abs=2)
    assert centres[0] == pytest.approx([100, 300], abs=8)


def test_every_panel_has_its_title_and_scale_bar(tmp_path: Path) -> None:
    image = np.zeros((64, 64), np.float32)
    write_side_by_side(tmp_path / "s.png", [Panel("Title", image, 100.0), Panel("", image, 100.0)])
    rgb = read_png(tmp_path / "s.png")
    half = rgb.shape[1] // 2
    title = (rgb[: rgb.shape[0] - 540] == 255).all(axis=2)
    assert title[:, :half].any()
    assert not title[:, half:].any()
    for panel in (rgb[:, :half], rgb[:, half:]):
        assert longest_white_run(panel) == round(1000 / (6400 / 512))


def test_a_display_blur_is_said_on_the_picture(tmp_path: Path) -> None:
    image = np.zeros((64, 64), np.float32)
    heads = []
    for blur_nm in (0.0, 10.0):
        write_side_by_side(tmp_path / "s.png", [Panel("Truth", image, 12.5, blur_nm=blur_nm)])
        rgb = read_png(tmp_path / "s.png")
        heads.append(rgb[: rgb.shape[0] - 524].astype(int))
    plain, told = (int((head.max(axis=2) > 60).any(axis=0).nonzero()[0].max()) for head in heads)
    assert told > plain + 100


def test_what_is_said_of_a_panel_stays_above_it(tmp_path: Path) -> None:
    image = np.zeros((64, 64), np.float32)
    ends = []
    for note in ("", "livenet", "livenet " * 30):
        panels = [Panel("7 frames of cell " * 30, image, 12.5, note=note), Panel("", image, 12.5)]
        write_side_by_side(tmp_path / "s.png", panels)
        rgb = read_png(tmp_path / "s.png")
        head = rgb[: rgb.shape[0] - 524].max(axis=2) > 60
        assert not head[:, 12 + 512 : 24 + 512].any(), "nothing runs into the next panel"
        title, said = head[:45, : 12 + 512], head[45:, : 12 + 512]
        assert title.any(axis=0).nonzero()[0].max() > 460
        ends.append(int(said.any(axis=0).nonzero()[0].max()))
    assert ends[0] + 40 < ends[1] < 300
    assert ends[2] > 460


def test_panels_of_different_fields_are_refused(tmp_path: Path) -> None:
    image = np.zeros((64, 64), np.float32)
    with pytest.raises(InputError, match="'b' shows 800 x 800 nm, but 'a' 6400 x 6400 nm"):
        write_side_by_side(tmp_path / "s.png", [Panel("a", image, 100.0), Panel("b", image, 12.5)])
    with pytest.raises(InputError, match="at least one panel"):
        write_side_by_side(tmp_path / "s.png", [])
    assert list(tmp_path.iterdir()) == []


def test_the_micro_sign_is_drawn(tmp_path: Path) -> None:
    """The font has none: what is drawn must differ from a u, and from the box for a missing letter."""
    canvas = np.zeros((512, 512), np.float32)
    write_preview(tmp_path / "micro.png", canvas, 12.5)
    rgb = read_png(tmp_path / "micro.png")[-60:, -120:]
    lit = (rgb.max(axis=2) > 200).sum(axis=1)
    bar = int(np.argmax(lit))
    gap = lit[bar - 12 : bar]
    assert (gap[:4] > 0).any(), "the stem of the µ reaches below the line"
    assert (gap == 0).any(), "but not into the bar"


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(self: Image.Image, path: Path, **kwargs: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", no_space)
    with pytest.raises(InputError, match=r"p\.png: No space left on device"):
        write_preview(tmp_path / "p.png", np.zeros((8, 8), np.float32), 12.5)
    assert list(tmp_path.iterdir()) == []
