"""``stormlive evaluate``: the figures it gives, the files it leaves, what it says to bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from stormlive.cli.app import run
from stormlive.output.ome_tiff import read_image, write_image
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
    assert "movie.tif is a TIFF: a movie or a picture, and a table (CSV) is expected" in line
    Path("found.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "an HDF5 file" in complaint(capsys, "--truth", "truth.csv", "--found", "found.hdf5")
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
