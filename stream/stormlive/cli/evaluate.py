"""``stormlive evaluate``: localizations or a picture against the truth."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stormlive.cli import options
from stormlive.cli.terminal import answers, note
from stormlive.wire.text import counted
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive.cli.evaluation import Evaluation
    from stormlive_models.evaluate import Scores

_TOLERANCES_NM = (50.0, 100.0, 250.0)
_MOST_UNSEEN = 0.05
_ROWS = 20


def evaluate(
    truth: Annotated[
        Path,
        typer.Option(
            "--truth",
            metavar="TRUTH.csv",
            help="Every emitter of every frame: the table that `stormlive simulate --truth` wrote with the movie, or "
            "one like it in a format of --found.",
        ),
    ],
    found: Annotated[
        Path | None,
        typer.Option(
            "--found",
            metavar="LOCALIZATIONS.csv|.hdf5",
            help="Judge this table of localizations of the movie: what `--localizations` of stormlive wrote, or any "
            "other program, as the CSV of ThunderSTORM (columns frame, x \\[nm], y \\[nm], intensity \\[photon]; "
            "frames from 1) or the HDF5 of Picasso (with its .yaml beside it; frames from 0).",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            metavar="PICTURE.ome.tif",
            help="Judge this super-resolved picture of the movie: that of `stormlive reconstruct`, superres.ome.tif of "
            "a live run, or any grey TIFF that tells its pixel size and begins at the corner of the first pixel.",
        ),
    ] = None,
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(
            "--pixel-size-nm",
            min=1,
            max=10_000,
            metavar="NM",
            help="Camera pixel in the sample, for a Picasso table without a .yaml that has it.",
        ),
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
        bool,
        typer.Option(
            "--frames",
            help="Also tell how the localizations went along the movie; in the JSON frame by frame.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="Write all figures and warnings there.")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots",
            metavar="DIR",
            help="Write plots (PNG) into this folder: localizations.png, image.png, and frames.png with --frames.",
        ),
    ] = None,
) -> None:
    """Judge localizations, a picture or both against the truth of a simulated movie.

    From nothing to a score:

    [bold]stormlive simulate -o movie.tif --truth truth.csv[/bold]

    [bold]stormlive reconstruct movie.tif -o picture.ome.tif --localizations found.csv[/bold]

    [bold]stormlive evaluate --truth truth.csv --found found.csv --image picture.ome.tif --plots plots[/bold]

    Localizations are paired with emitters frame by frame, as many as possible within the tolerance. The picture is
    compared with the histogram of all true emitters on its own grid, after the best scaling. All must be of one movie:
    what cannot belong together is refused, what seems not to is told.
    """
    from stormlive.cli.evaluation import assess, write_json
    from stormlive.cli.evaluation_checks import check_picture, check_scores, check_tables
    from stormlive.cli.evaluation_tables import is_picasso, read_any_table
    from stormlive.output.ome_tiff import read_image

    if found is None and image is None:
        raise InputError("nothing to judge: give --found LOCALIZATIONS.csv (or .hdf5), --image PICTURE.ome.tif or both")
    if json_file is not None:
        options.check_can_write(json_file)
    if plots is not None and plots.exists() and not plots.is_dir():
        raise InputError(f"{plots} is a file; give a folder for the plots")
    if pixel_size_nm is not None and not any(is_picasso(path) for path in (truth, found) if path is not None):
        raise InputError("--pixel-size-nm is for a table of Picasso (.hdf5), and none is given; leave it out")
    true = read_any_table(truth, pixel_size_nm)
    if not len(true):
        raise InputError(f"{truth} holds no emitters; there is nothing to judge by")
    table = None if found is None else read_any_table(found, pixel_size_nm)
    if found is not None and table is not None:
        check_tables(found, table, truth, true)
    if image is not None and image.suffix.lower() == ".png":
        raise InputError(
            f"{image} is a preview, whose colours are no figures; give {image.with_suffix('.ome.tif').name} beside it "
            "(superres.ome.tif in the folder of a run)"
        )
    picture = None if image is None else read_image(image)
    if image is not None and picture is not None:
        check_picture(image, *picture, true)
    tolerances = tuple(sorted(set(tolerance_nm or _TOLERANCES_NM)))
    result = assess(true, table, picture, tolerances)
    warnings = check_scores(result, found, truth, image)

    if result.localizations is not None:
        _show_localizations(found, result, frames=frames)
    if result.image is not None:
        _show_image(image, result)
    for warning in warnings:
        answers.print(f"warning: {warning}.", style="yellow", soft_wrap=True, markup=False)
    if json_file is not None:
        write_json(json_file, result, truth=truth, found=found, image=image, warnings=warnings, frames=frames)
        note(f"figures: {json_file}")
    if plots is not None:
        from stormlive.cli.evaluation_plots import write_plots

        note("plots: " + ", ".join(str(path) for path in write_plots(plots, result, frames=frames)))


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
        answers.print(
            f"FRC resolution at 1/7, alternate blocks of {counted(found.frc_block, 'frame')}: {resolution} nm",
            soft_wrap=True,
        )
    if frames:
        blocks = Table("frames", "emitters", "found", *(f"J({tolerance:g} nm)" for tolerance, _ in found.scores))
        for span, n_true, n_found, jaccard in found.blocks(_ROWS):
            blocks.add_row(span, str(n_true), str(n_found), *(_number(j, ".3f") for j in jaccard))
        answers.print(blocks)


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
