"""``stormlive evaluate``: localizations or a picture against the truth."""

import contextlib
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import answers, note
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stormlive.cli.evaluation import Evaluation
    from stormlive_models.evaluate import Scores
    from stormlive_sim.emitters import Emitters

_TOLERANCES_NM = (50.0, 100.0, 250.0)
_MOST_OUTSIDE = 0.05
_MOST_BEYOND = 0.05
_MOST_UNSEEN = 0.05
_MOST_FRAMES = 10_000_000
_ROWS = 20
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = (b"\x89HDF",)


def evaluate(
    truth: Annotated[
        Path, typer.Option("--truth", metavar="TRUTH.csv", help="Every emitter of every frame (ThunderSTORM table).")
    ],
    found: Annotated[
        Path | None,
        typer.Option("--found", metavar="LOCALIZATIONS.csv", help="A table of localizations (ThunderSTORM) to judge."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="PICTURE.ome.tif", help="A super-resolved picture to judge."),
    ] = None,
    tolerance_nm: Annotated[
        list[float] | None,
        typer.Option(
            "--tolerance-nm",
            min=1,
            max=10_000,
            metavar="NM",
            show_default=False,
            help="Farthest that a localization may lie from its emitter, in nm; may be given several times. By default "
            "50, 100 and 250.",
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Also tell how it went along the movie; in the JSON frame by frame.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="Write all figures there.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Write plots (PNG) into this folder.")
    ] = None,
) -> None:
    """Judge localizations, a picture or both against the truth of a simulated movie.

    Localizations are paired with emitters frame by frame, as many as possible within the tolerance. The picture is
    compared with the histogram of all true emitters on its own grid, after the best scaling. A movie with its truth
    comes from [bold]stormlive simulate[/bold], its picture and localizations from [bold]stormlive reconstruct[/bold].
    """
    from stormlive.cli.evaluation import assess, write_json
    from stormlive.output.ome_tiff import read_image

    if found is None and image is None:
        raise InputError("nothing to judge: give --found LOCALIZATIONS.csv, --image PICTURE.ome.tif or both")
    if json_file is not None:
        options.check_can_write(json_file)
    if plots is not None and plots.exists() and not plots.is_dir():
        raise InputError(f"{plots} is a file; give a folder for the plots")
    true = _read_table(truth)
    if not len(true):
        raise InputError(f"{truth} holds no emitters; there is nothing to judge by")
    table = None if found is None else _read_table(found)
    if image is not None and image.suffix.lower() == ".png":
        raise InputError(
            f"{image} is a preview, whose colours are no figures; give {image.with_suffix('.ome.tif').name} beside it "
            "(superres.ome.tif in the folder of a run)"
        )
    picture = None if image is None else read_image(image)
    if image is not None and picture is not None:
        _check_picture(image, *picture, true)
    tolerances = tuple(sorted(set(tolerance_nm or _TOLERANCES_NM)))
    result = assess(true, table, picture, tolerances)

    if result.localizations is not None:
        _show_localizations(found, result, frames=frames)
    if result.image is not None:
        _show_image(image, result)
    if json_file is not None:
        write_json(json_file, result, truth=truth, found=found, image=image, frames=frames)
        note(f"figures: {json_file}")
    if plots is not None:
        from stormlive.cli.evaluation_plots import write_plots

        note("plots: " + ", ".join(str(path) for path in write_plots(plots, result, frames=frames)))


def _read_table(path: Path) -> "Emitters":
    from stormlive_sim.thunderstorm import read_table

    _refuse_other_formats(path)
    try:
        table = read_table(path)
    except InputError:
        raise
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of numbers ({error}); export it again") from error
    for name, column in (("x [nm]", table.x_nm), ("y [nm]", table.y_nm)):
        bad = ~column.isfinite()
        if bad.any():
            raise InputError(f"{path}: row {int(bad.nonzero()[0]) + 1} has no finite {name}; remove such rows")
    # A NaN has become some whole number far away by now.
    strange = (table.frame < 0) | (table.frame >= _MOST_FRAMES)
    if strange.any():
        row = int(strange.nonzero()[0]) + 1
        raise InputError(f"{path}: row {row} has no frame number from 1 to {_MOST_FRAMES}; ThunderSTORM counts from 1")
    return table


def _refuse_other_formats(path: Path) -> None:
    """Raise an InputError where a table is expected and a movie, a picture or a table for Picasso is given."""
    start = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(4)
    kind = "a TIFF: a movie or a picture" if start in _TIFF else "an HDF5 file" if start in _HDF5 else None
    if kind is not None:
        raise InputError(
            f"{path} is {kind}, and a table (CSV) is expected; `stormlive simulate --truth TRUTH.csv` writes that of "
            "the true emitters, `stormlive reconstruct --localizations FOUND.csv` that of what was found"
        )


def _check_picture(path: Path, image: "NDArray[np.float32]", pixel_size_nm: float, truth: "Emitters") -> None:
    """Raise an InputError where picture and truth cannot be of the same field."""
    import numpy as np

    if not np.isfinite(image).all():
        raise InputError(f"{path}: {int((~np.isfinite(image)).sum())} pixels are NaN or infinite; expected numbers")
    height_nm, width_nm = (side * pixel_size_nm for side in image.shape)
    inside = (truth.x_nm >= 0) & (truth.x_nm <= width_nm) & (truth.y_nm >= 0) & (truth.y_nm <= height_nm)
    x_nm, y_nm = float(truth.x_nm.max()), float(truth.y_nm.max())
    grid = (
        f"{path} shows {width_nm:.0f} x {height_nm:.0f} nm ({image.shape[1]} x {image.shape[0]} pixels of "
        f"{pixel_size_nm:g} nm)"
    )
    advice = "give a picture of the truth's field, and check its pixel size"
    if (~inside).float().mean() > _MOST_OUTSIDE:
        raise InputError(
            f"{grid}, but {int((~inside).sum())} of {len(truth)} true emitters lie outside, up to x {x_nm:.0f}, "
            f"y {y_nm:.0f} nm; {advice}"
        )
    # What a camera's pixel size on a finer picture does.
    if len(truth) >= _ROWS and x_nm < width_nm / 2 and y_nm < height_nm / 2:
        raise InputError(f"{grid}, but all {len(truth)} true emitters lie in its first quarter; {advice}")


def _show_localizations(path: Path | None, result: "Evaluation", *, frames: bool) -> None:
    from rich.table import Table

    found = result.localizations
    if found is None:
        return
    first, last = found.frames[0], found.frames[-1]
    answers.print(
        f"{path}: {found.scores[0][1].n_found} localizations, {len(result.truth)} true emitters, "
        f"frames {first} to {last}",
        soft_wrap=True,
        markup=False,
    )
    hint = _part(result)
    if hint:
        answers.print(hint, soft_wrap=True)
    table = Table("within", *(f"{tolerance:g} nm" for tolerance, _ in found.scores))
    for name, text in _ROWS_OF_SCORES:
        table.add_row(name, *(text(s) for _, s in found.scores))
        if name == "recall":
            table.add_row("recall, brighter half", *(_number(share, ".3f") for share in found.recall_bright))
    answers.print(table)
    tolerance, best = found.scores[-1]
    if found.recall_bright[-1] - best.recall > _MOST_UNSEEN:
        answers.print(
            "The truth lists every emitter, also one that shone for a sliver of a frame, which nobody can see: within "
            f"{tolerance:g} nm {100 * best.recall:.0f} % of all are found, of the brighter half "
            f"{100 * found.recall_bright[-1]:.0f} %.",
            soft_wrap=True,
        )
    if found.frc is not None:
        resolution = _number(found.frc.resolution_nm, ".1f")
        answers.print(f"FRC resolution at 1/7, odd against even frames: {resolution} nm", soft_wrap=True)
    if frames:
        blocks = Table("frames", "emitters", "found", *(f"J({tolerance:g} nm)" for tolerance, _ in found.scores))
        for span, n_true, n_found, jaccard in found.blocks(_ROWS):
            blocks.add_row(span, str(n_true), str(n_found), *(_number(j, ".3f") for j in jaccard))
        answers.print(blocks)


def _part(result: "Evaluation") -> str:
    """Return what to think of, where many emitters are of frames beyond those that the table is of."""
    found = result.localizations
    if found is None or not len(found.table):
        return ""
    first, last = int(found.table.frame.min()), int(found.table.frame.max())
    beyond = int(((result.truth.frame < first) | (result.truth.frame > last)).sum())
    if beyond <= _MOST_BEYOND * len(result.truth):
        return ""
    return (
        f"The table is of frames {first + 1} to {last + 1} alone; the {beyond} true emitters of the others count as "
        "missed. To judge those frames, leave the others out of the truth."
    )


def _show_image(path: Path | None, result: "Evaluation") -> None:
    from rich.table import Table

    picture = result.image
    if picture is None:
        return
    s = picture.scores
    height, width = picture.image.shape
    answers.print(
        f"{path}: {width} x {height} sub-pixels of {picture.pixel_size_nm:g} nm", soft_wrap=True, markup=False
    )
    table = Table("against the truth", "")
    table.add_row("N3: squared error, both blurred", _number(s.n3_percent, ".1f", " %"))
    table.add_row("Pearson correlation, both blurred", _number(s.pearson, ".4f"))
    table.add_row("artifacts: intensity over 25 nm off", _number(100 * s.artifact_fraction, ".2f", " %"))
    table.add_row("mass / number of true emitters", _number(s.mass_ratio, ".3f"))
    table.add_row("N1: squared error, raw", _number(s.n1_percent, ".1f", " %"))
    answers.print(table)
    answers.print(
        "Judge by N3. N1 compares single sub-pixels, and the truth has each emitter in just one of them, nearer than "
        "its light can tell: livenet's picture of the 1000 frames that `simulate` makes by default has N3 12 %, "
        "N1 64 %; of other movies, and by other models, they are others.",
        soft_wrap=True,
    )
    answers.print(
        "Squared error: sum((sX - H)²) / sum(H²), X the picture, H the histogram of the true emitters on its grid "
        "(floor), s = sum(XH) / sum(X²), which hides lost emitters. Blur: 7x7 Gaussian, sigma 1 sub-pixel.",
        soft_wrap=True,
    )


def _number(value: float, form: str, unit: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{form}}{unit}"


def _pair(x: float, y: float, form: str) -> str:
    return f"{_number(x, form)} / {_number(y, form)}"


_ROWS_OF_SCORES: tuple[tuple[str, Callable[["Scores"], str]], ...] = (
    ("Jaccard", lambda s: _number(s.jaccard, ".3f")),
    ("precision", lambda s: _number(s.precision, ".3f")),
    ("recall", lambda s: _number(s.recall, ".3f")),
    ("RMSE, lateral, nm", lambda s: _number(s.rmse_nm, ".1f")),
    ("RMSE, x / y, nm", lambda s: _pair(s.rmse_x_nm, s.rmse_y_nm, ".1f")),
    ("bias, x / y, nm", lambda s: _pair(s.bias_x_nm, s.bias_y_nm, "+.1f")),
    ("efficiency (1 %/nm)", lambda s: _number(s.efficiency, ".1f", " %")),
)
