"""``stormlive evaluate``: the figures it gives, the files it leaves, what it says to bad input."""

import json
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from matplotlib.text import Text
from PIL import Image
from scipy.ndimage import distance_transform_edt

from stormlive.cli import evaluation_picture, evaluation_plots
from stormlive.cli.app import run
from stormlive.cli.evaluation import assess
from stormlive.output.ome_tiff import read_image, write_image
from stormlive.output.tables import LOCALIZATION, open_table
from stormlive_models.evaluate import score
from stormlive_sim.emitters import Emitters
from stormlive_sim.psf import render_gaussians
from stormlive_sim.thunderstorm import read_table, write_table

PIXEL_NM = 12.5
SIDE = 96


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stormlive(line: str) -> int:
    return run(line.split())


def emitters(n: int, *, seed: int = 0, frames: int = 20) -> Emitters:
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(2, n, generator=generator) * SIDE * PIXEL_NM
    frame = torch.randint(0, frames, (n,), generator=generator).sort().values
    return Emitters(frame=frame, x_nm=place[0], y_nm=place[1], photons=torch.full((n,), 900.0))


@pytest.fixture
def truth() -> Emitters:
    table = emitters(300)
    write_table(Path("truth.csv"), [table], sigma_nm=115)
    return read_table(Path("truth.csv"))


def write_found(truth: Emitters) -> None:
    """Write the truth less every fifth row, a little beside its place, and 30 that are made up."""
    kept = truth.select(torch.arange(len(truth)) % 5 > 0)
    noise = 12 * torch.randn(2, len(kept), generator=torch.Generator().manual_seed(3))
    near = Emitters(frame=kept.frame, x_nm=kept.x_nm + 7 + noise[0], y_nm=kept.y_nm + noise[1], photons=kept.photons)
    write_table(Path("found.csv"), [near, emitters(30, seed=9)], sigma_nm=115)


def write_picture(truth: Emitters, name: str = "picture.ome.tif") -> np.ndarray:
    image = np.zeros((SIDE, SIDE), np.float32)
    columns, rows = ((v / PIXEL_NM).long().clamp(0, SIDE - 1).numpy() for v in (truth.x_nm, truth.y_nm))
    np.add.at(image, (rows, columns), 0.5)
    # What is not there lies as far from everything as it can.
    distance = distance_transform_edt(image == 0)
    image[np.unravel_index(distance.argmax(), distance.shape)] = 3
    write_image(Path(name), image, PIXEL_NM, name="x", description="x")
    return image


def test_figures_files_and_plots(truth: Emitters, capsys: pytest.CaptureFixture[str]) -> None:
    write_found(truth)
    write_picture(truth)
    status = stormlive(
        "evaluate --truth truth.csv --found found.csv --image picture.ome.tif "
        "--tolerance-nm 80 --tolerance-nm 20 --frames --json figures.json --plots plots/of/it"
    )
    said = capsys.readouterr()
    assert status == 0, said.err
    figures = json.loads(Path("figures.json").read_text())
    assert figures["truth"] == {"file": "truth.csv", "emitters": 300}

    by_tolerance = figures["localizations"]["scores"]
    assert [s["tolerance_nm"] for s in by_tolerance] == [20, 80]
    expected = score(read_table(Path("found.csv")), truth, 80.0)
    assert by_tolerance[1]["jaccard"] == pytest.approx(expected.jaccard)
    assert by_tolerance[1]["rmse_x_nm"] == pytest.approx(expected.rmse_x_nm)
    assert by_tolerance[1]["bias_x_nm"] == pytest.approx(7, abs=2)
    assert by_tolerance[1]["bias_y_nm"] == pytest.approx(0, abs=2)
    assert f"{expected.jaccard:.3f}" in said.out
    assert f"{expected.efficiency:.1f} %" in said.out

    along = figures["localizations"]["frames"]
    assert along["frame"] == list(range(1, 21))
    assert (sum(along["n_truth"]), sum(along["n_found"])) == (300, 270)
    assert sum(along["n_matched"][1]["n"]) == expected.n_matched

    assert figures["localizations"]["frc"]["halves"] == "alternate blocks of 1 frame"
    assert "at 1/7, alternate blocks of 1 frame: " in said.out
    picture = figures["image"]
    assert picture["shape"] == [SIDE, SIDE]
    assert picture["pixel_size_nm"] == PIXEL_NM
    assert picture["mass_ratio"] == pytest.approx(153 / 300, abs=0.01)
    assert picture["artifact_fraction"] == pytest.approx(3 / 153)
    assert f"{picture['n3_percent']:.1f} %" in said.out

    for name in ("localizations.png", "frames.png", "image.png"):
        with Image.open(Path("plots/of/it") / name) as plot:
            plot.load()
            assert plot.width > 600
            assert len(np.unique(np.asarray(plot.convert("L")))) > 20
    assert not list(Path("plots/of/it").glob("*.part"))


def test_a_picture_alone_and_a_table_alone(truth: Emitters, capsys: pytest.CaptureFixture[str]) -> None:
    write_found(truth)
    write_picture(truth)
    assert run(["evaluate", "--truth", "truth.csv", "--image", "picture.ome.tif"]) == 0
    assert "Jaccard" not in capsys.readouterr().out
    assert run(["evaluate", "--truth", "truth.csv", "--found", "found.csv", "--json", "f.json"]) == 0
    assert "N1" not in capsys.readouterr().out
    figures = json.loads(Path("f.json").read_text())
    assert [s["tolerance_nm"] for s in figures["localizations"]["scores"]] == [50, 100, 250]
    assert "image" not in figures
    assert "frames" not in figures["localizations"]


def test_a_table_of_a_part_of_the_frames_is_told(truth: Emitters, capsys: pytest.CaptureFixture[str]) -> None:
    for frames, told in ((slice(5, 9), True), (slice(1, 19), True), (slice(0, 20), False)):
        part = (truth.frame >= frames.start) & (truth.frame < frames.stop)
        write_table(Path("found.csv"), [truth.select(part)], sigma_nm=115)
        assert run(["evaluate", "--truth", "truth.csv", "--found", "found.csv"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        hint = f"frames {frames.start + 1} to {frames.stop} alone; the {int((~part).sum())} true emitters of the others"
        assert (hint in said) is told


@pytest.mark.parametrize("slivers", [True, False])
def test_emitters_that_nobody_can_see_are_told(capsys: pytest.CaptureFixture[str], slivers: bool) -> None:
    """Half of the emitters are not found: the dim ones, or any."""
    true = emitters(300)
    seen = torch.arange(300) % 2 == 0
    light = torch.where(seen, 900.0, 90.0) if slivers else torch.full((300,), 900.0)
    table = Emitters(frame=true.frame, x_nm=true.x_nm, y_nm=true.y_nm, photons=light)
    write_table(Path("truth.csv"), [table], sigma_nm=115)
    write_table(Path("found.csv"), [table.select(seen)], sigma_nm=115)
    assert run(["evaluate", "--truth", "truth.csv", "--found", "found.csv", "--json", "f.json"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("within 250 nm 50 % of all are found, of the brighter half 100 %" in said) is slivers
    scores = json.loads(Path("f.json").read_text())["localizations"]["scores"]
    assert [score["recall_brighter_half"] for score in scores] == [1.0 if slivers else 0.5] * 3


def moved(table: Emitters, *, frames: int = 0, times: float = 1, nm: float = 0) -> Emitters:
    return replace(table, frame=table.frame + frames, x_nm=times * table.x_nm + nm, y_nm=times * table.y_nm + nm)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (moved(emitters(300), frames=20), "found.csv is of frames 21 to 40, truth.csv of 1 to 20: none in common"),
        (
            moved(emitters(300), times=0.01),
            "reach 11.68 nm in found.csv, 1168 nm in truth.csv: the former seem to be camera pixels",
        ),
        (moved(emitters(300), times=0.001), "the former seem to be µm, and nm are expected; multiply them by 1000"),
        (moved(emitters(300), times=60), "nm in truth.csv, 7.011e+04 nm in found.csv: the former"),
        (moved(emitters(300), nm=-1200), "300 at negative positions, which count from the corner of the first pixel"),
        (moved(emitters(300, seed=1), times=4), "localizations lie outside the field of truth.csv (x 1 to 11"),
        (emitters(300, seed=1, frames=100), "are of frames before or after those of truth.csv (1 to 20), and only"),
    ],
)
def test_a_table_that_cannot_be_of_the_truth_is_refused(
    truth: Emitters, capsys: pytest.CaptureFixture[str], other: Emitters, word: str
) -> None:
    write_table(Path("found.csv"), [other], sigma_nm=115)
    line = complaint(capsys, "--truth", "truth.csv", "--found", "found.csv", "--json", "f.json")
    assert word in line
    assert not Path("f.json").exists()


def test_what_makes_a_score_doubtful_is_told(truth: Emitters, capsys: pytest.CaptureFixture[str]) -> None:
    def warnings(*tables: Emitters, of: Emitters = truth) -> list[str]:
        write_table(Path("truth.csv"), [of], sigma_nm=115)
        write_table(Path("found.csv"), tables, sigma_nm=115)
        assert stormlive("evaluate --truth truth.csv --found found.csv --json f.json") == 0
        told: list[str] = json.loads(Path("f.json").read_text())["warnings"]
        assert [f"warning: {text}." for text in told] == [
            line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")
        ]
        return told

    assert warnings(truth) == []
    # Poor, but of this movie.
    assert warnings(truth.select(slice(0, 120)), emitters(400, seed=1)) == []
    late = moved(truth.select(slice(0, 60)), frames=20)
    (text,) = warnings(truth, late)
    assert text.startswith("60 of 360 localizations are of frames before or after those of truth.csv (1 to 20), and ")
    beside = replace(late, frame=late.frame - 20, x_nm=late.x_nm + 2000)
    (text,) = warnings(truth, beside)
    assert text.startswith("60 of 360 localizations lie outside the field of truth.csv")
    (text,) = warnings(emitters(300, seed=1))
    assert "emitter of their frame, and" in text

    # Where many have a neighbour, a shifted table is near more often than any chance has it.
    spread = moved(emitters(1000, frames=100), times=4)
    pairs = Emitters.concatenate([spread, moved(spread.select(slice(0, 600)), nm=150)])
    other = moved(emitters(1000, seed=1, frames=100), times=4)
    assert warnings(pairs.select(torch.arange(1600) % 3 == 0), other, other, of=pairs) == []
    for wrong in (moved(pairs, nm=107), replace(pairs, x_nm=4800 - pairs.x_nm)):
        (text,) = warnings(wrong, of=pairs)
        assert "the table is of another movie, shifted or mirrored" in text

    # Beads shine in all frames: those half a movie away are the same.
    frame, bead = torch.arange(20).repeat_interleave(9), torch.arange(9).repeat(20)
    beads = replace(
        truth.select(slice(0, 180)), frame=frame, x_nm=500.0 + bead % 3 * 2000, y_nm=500.0 + bead // 3 * 2000
    )
    assert warnings(beads.select(slice(0, 60)), moved(emitters(120, seed=1), times=4), of=beads) == []
    (text,) = warnings(beads, moved(emitters(270, seed=1), frames=20), of=beads)
    assert text.startswith("270 of 450 localizations are of frames before or after")

    # A corner of the field is no table in camera pixels.
    wide, some = moved(emitters(600), times=6), torch.arange(600) % 15 == 0
    for times in (0.25, 0.12):
        corner = moved(emitters(600, seed=1), times=times).select(some)
        assert warnings(corner, of=Emitters.concatenate([corner, wide.select(~some)])) == []


@pytest.mark.parametrize(("n_frames", "told"), [(20, False), (15, True), (30, True)])
def test_a_picture_of_another_movie_is_told(
    truth: Emitters, capsys: pytest.CaptureFixture[str], n_frames: int, told: bool
) -> None:
    write_picture(truth)
    zero = {"shape": [SIDE, SIDE], "upsampling": 8, "pixel_size_nm": PIXEL_NM, "sum": 1.0}
    camera = {"pixel_size_nm": 100, "baseline_adu": 1, "photons_per_adu": 1, "exposure_ms": 1, "frame_shape": [12, 12]}
    record = {
        "format": "stormlive-run-1",
        "summary": "",
        "exit_status": "ok",
        "started_at": "2026-01-01T00:00:00Z",
        "camera": camera | {"dtype": "uint16"},
        "model": {"name": "", "weights_sha256": "", "card": {}},
        "device": "",
        "frames": {},
        "timings_s": {},
        "latency_ms": {},
        "canvas": zero,
        "canvases": [{"axes": [], "frames": n_frames, "sum": 1.0, "files": ["picture.ome.tif"]}],
        "versions": {},
        "files": [],
    }
    Path("picture.run.json").write_text(json.dumps(record))
    assert stormlive("evaluate --truth truth.csv --image picture.ome.tif") == 0
    said = capsys.readouterr().out
    assert (f"picture.ome.tif is of {n_frames} frames, by the record beside it" in said) is told
    assert ("if the movie was not dark from there on" in said) is (n_frames == 30)

    write_picture(emitters(300, seed=1))
    assert stormlive("evaluate --truth truth.csv --image picture.ome.tif") == 0
    assert "picture.ome.tif has next to nothing in common with truth.csv" in capsys.readouterr().out
    for value in (0, 1):
        flat = np.full((SIDE, SIDE), value, np.float32)
        write_image(Path("picture.ome.tif"), flat, PIXEL_NM, name="x", description="x")
        assert stormlive("evaluate --truth truth.csv --image picture.ome.tif") == 0
        assert "picture.ome.tif or its truth is flat, the same all over" in capsys.readouterr().out


def test_a_picasso_table_is_judged_as_the_csv_of_the_same_run(
    truth: Emitters, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.zeros(250, LOCALIZATION)
    columns = {"frame": truth.frame, "x_nm": truth.x_nm + 9, "y_nm": truth.y_nm, "photons": truth.photons}
    for name, column in columns.items():
        rows[name] = column[:250].numpy()
    for name in ("found.csv", "found.hdf5"):
        table = open_table(Path(name), shape=(12, 12), pixel_size_nm=106.5)
        table.append(rows)
        table.close(20)

    def judged(line: str) -> list[float]:
        assert stormlive(f"evaluate --truth truth.csv --json f.json {line}") == 0
        localizations = json.loads(Path("f.json").read_text())["localizations"]
        return [*localizations["scores"][1].values(), localizations["frc"]["resolution_nm"]]

    by_csv = judged("--found found.csv")
    assert judged("--found found.hdf5") == pytest.approx(by_csv, abs=0.01)
    info = Path("found.yaml").read_text()
    Path("found.yaml").write_text(info.replace("Pixelsize: 106.5\n", ""))
    assert judged("--found found.hdf5 --pixel-size-nm 106.5") == pytest.approx(by_csv, abs=0.01)
    capsys.readouterr()
    line = complaint(capsys, "--truth", "truth.csv", "--found", "found.hdf5")
    assert "no found.yaml beside it tells their size (Pixelsize, in nm); put it there, or give --pixel-size-nm" in line
    Path("found.yaml").write_text(info)
    line = complaint(capsys, "--truth", "truth.csv", "--found", "found.hdf5", "--pixel-size-nm", "100")
    assert "--pixel-size-nm is 100, but found.yaml beside found.hdf5 tells 106.5 nm" in line
    # What Picasso itself has found counts from the centre of the first pixel.
    Path("found.yaml").write_text(f"{info}---\nGenerated by: Picasso v0.11.3 Localize\nPixelsize: 106.5\n")
    assert judged("--found found.hdf5 --pixel-size-nm 106.5") != pytest.approx(by_csv, abs=1)
    with h5py.File("found.hdf5", "r+") as file:
        locs = file["locs"][...]
        for name in ("x", "y"):
            locs[name] -= 0.5
        file["locs"][...] = locs
    assert judged("--found found.hdf5 --pixel-size-nm 106.5") == pytest.approx(by_csv, abs=0.01)

    capsys.readouterr()
    line = complaint(capsys, "--truth", "truth.csv", "--found", "found.csv", "--pixel-size-nm", "100")
    assert "--pixel-size-nm is for a table of Picasso" in line
    with h5py.File("other.hdf5", "w") as file:
        file["locs"] = np.zeros(3, [("frame", "u4"), ("x", "f4"), ("y", "f4")])
        file["elsewhere"] = np.zeros(3)
    assert "columns of numbers ['photons'] are missing" in complaint(
        capsys, "--truth", "truth.csv", "--found", "other.hdf5"
    )
    with h5py.File("other.hdf5", "r+") as file:
        del file["locs"]
    assert "without a table 'locs'" in complaint(capsys, "--truth", "truth.csv", "--found", "other.hdf5")
    Path("cut.hdf5").write_bytes(Path("found.hdf5").read_bytes()[:100])
    assert "cannot read cut.hdf5" in complaint(capsys, "--truth", "truth.csv", "--found", "cut.hdf5")
    whole = Path("found.hdf5").read_bytes()
    for name in (b"photons", b"frame"):
        Path("cut.hdf5").write_bytes(whole.replace(name, b"\xff" * len(name)))
        assert "cannot read cut.hdf5" in complaint(capsys, "--truth", "truth.csv", "--found", "cut.hdf5")


@pytest.mark.parametrize("shape", [(96, 96), (40, 400), (300, 280)])
def test_plots_say_what_they_show_and_no_word_is_cut_off(shape: tuple[int, int]) -> None:
    true = emitters(300)
    image = np.random.default_rng(0).random(shape, np.float32)
    result = assess(true, true.select(slice(0, 200)), (image, PIXEL_NM), (50.0, 100.0))
    assert result.localizations is not None
    assert result.image is not None
    figures = (
        evaluation_picture.picture_figure(true, result.image),
        evaluation_plots._localizations(true, result.localizations),
        evaluation_plots._frames(result.localizations),
    )
    words = []
    for figure in figures:
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert 0 <= drawn.x0 < drawn.x1 <= width
        assert 0 <= drawn.y0 < drawn.y1 <= height
        words += [text.get_text() for text in figure.findobj(Text)]
    said = " ".join(words)
    for word in ("Truth", "Picture ×", "Difference", "truth only: missed", "picture only: invented", "emitters/µm²"):
        assert word in said
    rows = 1 if max(shape) < 256 else 2
    assert len([word for word in words if re.fullmatch(r"\d+ nm|\d+ µm", word)]) == rows


def test_the_help_names_all_that_can_be_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--help"]) == 0
    said = " ".join(re.sub(r"[│\n]", " ", capsys.readouterr().out).split())
    for word in (
        "stormlive simulate -o movie.tif --truth truth.csv",
        "CSV of ThunderSTORM",
        "HDF5 of Picasso",
        "superres.ome.tif of a live run",
        "columns frame, x [nm], y [nm], intensity [photon]; frames from 1",
        "image.png",
    ):
        assert word in said


def test_no_localization_at_all_is_a_result(truth: Emitters, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(Path("found.csv"), [], sigma_nm=115)
    assert (
        run(
            ["evaluate", "--truth", "truth.csv", "--found", "found.csv", "--json", "f.json", "--frames", "--plots", "p"]
        )
        == 0
    )
    assert "–" in capsys.readouterr().out
    scores = json.loads(Path("f.json").read_text())["localizations"]["scores"][0]
    assert (scores["jaccard"], scores["recall"]) == (0, 0)
    assert scores["precision"] is None
    assert scores["rmse_nm"] is None


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = run(["evaluate", *arguments])
    said = capsys.readouterr()
    assert status in (1, 2), said.out
    assert "Traceback" not in said.err + said.out
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


HEADER = '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]"\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (HEADER, "holds no emitters"),
        (HEADER + "1,1,nan,5,1,1\n", "row 1 has no finite x [nm]"),
        (HEADER + "1,1,5,5,1,1\n2,1,5,inf,1,1\n", "row 2 has no finite y [nm]"),
        (HEADER + "1,0,5,5,1,1\n", "counts from 1"),
        (HEADER + "1,nan,5,5,1,1\n", "counts from 1"),
        (HEADER + "1,1,five,5,1,1\n", "table of numbers"),
        (HEADER + "1,1,5\n", "table of numbers"),
        ("frame,x,y\n1,2,3\n", "'x [nm]'"),
        ("", "missing"),
        ("\0\xff", "truth.csv"),
    ],
)
def test_bad_tables(capsys: pytest.CaptureFixture[str], truth: Emitters, text: str, word: str) -> None:
    write_picture(truth)
    Path("truth.csv").write_text(text, encoding="latin-1")
    assert word in complaint(capsys, "--truth", "truth.csv", "--image", "picture.ome.tif")


def test_pictures_that_cannot_be_judged(capsys: pytest.CaptureFixture[str], truth: Emitters) -> None:
    image = write_picture(truth)

    def judge(name: str) -> str:
        return complaint(capsys, "--truth", "truth.csv", "--image", name)

    write_image(Path("nan.ome.tif"), np.where(image == 0.5, np.nan, image), PIXEL_NM, name="x", description="x")
    assert "NaN" in judge("nan.ome.tif")
    write_image(Path("cut.ome.tif"), np.ascontiguousarray(image[:, :50]), PIXEL_NM, name="x", description="x")
    line = judge("cut.ome.tif")
    assert "lie outside" in line
    assert "625 x 1200 nm" in line
    write_image(Path("coarse.ome.tif"), image, 100.0, name="x", description="x")
    assert "first quarter" in judge("coarse.ome.tif")
    tifffile.imwrite("movie.tif", np.zeros((5, 8, 8), np.uint16))
    assert "one grey image (Y, X), got a stack (5, 8, 8)" in judge("movie.tif")
    line = complaint(capsys, "--truth", "movie.tif", "--image", "picture.ome.tif")
    assert "movie.tif is a TIFF: a movie or a picture, and a table is expected" in line
    tifffile.imwrite("unscaled.tif", image)
    assert "pixel size" in judge("unscaled.tif")
    assert "no such file" in judge("missing.tif")
    assert "give picture.ome.tif beside it" in judge("picture.png")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "nothing to judge"),
        (["--found", "missing.csv"], "missing.csv"),
        (["--found", "."], "cannot read"),
        (["--found", "found.csv", "--json", "nowhere/f.json"], "does not exist"),
        (["--found", "found.csv", "--plots", "truth.csv"], "is a file"),
        (["--found", "found.csv", "--tolerance-nm", "0"], "--tolerance-nm"),
    ],
)
def test_other_bad_input(capsys: pytest.CaptureFixture[str], truth: Emitters, arguments: list[str], word: str) -> None:
    write_found(truth)
    assert word in complaint(capsys, "--truth", "truth.csv", *arguments)


def test_the_truth_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--truth" in complaint(capsys, "--found", "found.csv")


def test_cel0_reconstructs_what_evaluate_judges(capsys: pytest.CaptureFixture[str]) -> None:
    spots = torch.tensor([[0, 510, 720], [0, 1190, 310], [1, 640, 1010]], dtype=torch.float32)
    table = Emitters(frame=spots[:, 0].long(), x_nm=spots[:, 1], y_nm=spots[:, 2], photons=torch.full((3,), 2000.0))
    write_table(Path("t.csv"), [table], sigma_nm=115)
    for name, pixel_nm in (("p", 100), ("q", 160)):
        light = torch.full((2, 16, 16), 10.0)
        x_px, y_px, sigma_px = table.x_nm / 100, table.y_nm / 100, torch.tensor(115 / pixel_nm)
        render_gaussians(light, table.frame, x_px, y_px, table.photons, sigma_px, radius=6)
        photons = torch.poisson(light, torch.Generator().manual_seed(0))
        tifffile.imwrite(f"{name}.tif", (2 * photons + 100).numpy().astype(np.uint16))
    for name, pixel_nm in (("p", 100), ("q", 160)):
        command = f"reconstruct {name}.tif -o {name}.ome.tif --model cel0 --device cpu --pixel-size-nm {pixel_nm}"
        assert stormlive(command) == 0
    image, _ = read_image(Path("p.ome.tif"))
    for picture in (image, read_image(Path("q.ome.tif"))[0]):
        assert (picture.shape, picture.sum()) == ((128, 128), 3)
    assert stormlive("evaluate --image p.ome.tif --truth t.csv --json f.json") == 0
    capsys.readouterr()
    judged = json.loads(Path("f.json").read_text())["image"]
    assert judged["mass_ratio"] == 1
    assert judged["pearson"] > 0.5
    assert judged["artifact_fraction"] == 0
