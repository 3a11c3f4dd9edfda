"""All figures of a table or a picture against the truth, and the JSON file that takes them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stormlive.wire.text import counted
from stormlive_models.evaluate import Scores, match_tables, scores
from stormlive_models.frc import RingCorrelation, block_halves, localization_frc
from stormlive_models.image_metrics import ImageScores, score_image
from stormlive_sim.atomic import whole_file
from stormlive_sim.emitters import Emitters

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class LocalizationEvaluation:
    """Localizations against the truth.

    Attributes
    ----------
    table : Emitters
        The localizations.
    scores : tuple
        (tolerance in nm, its scores), tolerances rising.
    frc : RingCorrelation or None
        Of the halves of `block_halves`; None where one of them has no localization.
    frc_block : int
        Frames of their blocks.
    frames : Counts
        int64 (F,), 1-based numbers of all frames from the first to the last in either table.
    n_truth, n_found : Counts
        int64 (F,), rows of each frame.
    n_matched : tuple of Counts
        Pairs of each frame, for each tolerance.
    recall_bright : tuple of float
        Recall of the brighter half of the true emitters, for each tolerance.
    """

    table: Emitters
    scores: tuple[tuple[float, Scores], ...]
    frc: RingCorrelation | None
    frc_block: int
    frames: Counts
    n_truth: Counts
    n_found: Counts
    n_matched: tuple[Counts, ...]
    recall_bright: tuple[float, ...]

    def blocks(self, most: int) -> Iterator[tuple[str, int, int, list[float]]]:
        """Yield (frames, emitters, localizations, Jaccard at each tolerance) of at most `most` stretches."""
        for part in np.array_split(np.arange(len(self.frames)), min(most, len(self.frames))):
            n_true, n_found = int(self.n_truth[part].sum()), int(self.n_found[part].sum())
            span = f"{self.frames[part[0]]}–{self.frames[part[-1]]}"
            yield span, n_true, n_found, [_jaccard(n_true, n_found, int(n[part].sum())) for n in self.n_matched]


@dataclass(frozen=True, kw_only=True)
class ImageEvaluation:
    """A picture, float32 (Y, X), against the truth."""

    image: NDArray[np.float32]
    pixel_size_nm: float
    scores: ImageScores


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was judged, by which truth, and how it came out."""

    truth: Emitters
    localizations: LocalizationEvaluation | None
    image: ImageEvaluation | None


def assess(
    truth: Emitters,
    found: Emitters | None,
    picture: tuple[NDArray[np.float32], float] | None,
    tolerances_nm: tuple[float, ...],
) -> Evaluation:
    """Return all figures of a table, of a picture with its pixel size in nm, or of both."""
    image = None
    if picture is not None:
        pixels, pixel_size_nm = picture
        image = ImageEvaluation(
            image=pixels, pixel_size_nm=pixel_size_nm, scores=score_image(pixels, truth, pixel_size_nm)
        )
    localizations = None if found is None else _assess_table(truth, found, tolerances_nm)
    return Evaluation(truth=truth, localizations=localizations, image=image)


def _assess_table(truth: Emitters, found: Emitters, tolerances_nm: tuple[float, ...]) -> LocalizationEvaluation:
    true_frame, found_frame = truth.frame.numpy(), found.frame.numpy()
    present = np.concatenate((true_frame, found_frame))
    first, n = int(present.min()), int(present.max() - present.min()) + 1
    pairs = [match_tables(found, truth, tolerance) for tolerance in tolerances_nm]
    *halves, block = block_halves(found)
    photons = truth.photons.numpy()
    bright = photons >= np.median(photons)
    return LocalizationEvaluation(
        table=found,
        scores=tuple((t, scores(found, truth, p)) for t, p in zip(tolerances_nm, pairs, strict=True)),
        frc=localization_frc(*halves) if all(len(half) for half in halves) else None,
        frc_block=block,
        frames=np.arange(first + 1, first + 1 + n),
        n_truth=np.bincount(true_frame - first, minlength=n),
        n_found=np.bincount(found_frame - first, minlength=n),
        n_matched=tuple(np.bincount(true_frame[p[:, 1]] - first, minlength=n) for p in pairs),
        recall_bright=tuple(int(bright[p[:, 1]].sum()) / max(1, int(bright.sum())) for p in pairs),
    )


def _jaccard(n_truth: int, n_found: int, n_matched: int) -> float:
    union = n_truth + n_found - n_matched
    return n_matched / union if union else float("nan")


def write_json(
    path: Path,
    result: Evaluation,
    *,
    truth: Path,
    found: Path | None,
    image: Path | None,
    warnings: Sequence[str],
    frames: bool,
) -> None:
    """Write all figures, and what was said of them, indented for people; what could not be determined is null."""
    record: dict[str, Any] = {
        "truth": {"file": truth.as_posix(), "emitters": len(result.truth)},
        "warnings": list(warnings),
    }
    table, picture = result.localizations, result.image
    if table is not None and found is not None:
        record["localizations"] = {
            "file": found.as_posix(),
            "scores": [
                {"tolerance_nm": tolerance, **asdict(s), "recall_brighter_half": bright}
                for (tolerance, s), bright in zip(table.scores, table.recall_bright, strict=True)
            ],
            "frc": {
                "halves": f"alternate blocks of {counted(table.frc_block, 'frame')}",
                "threshold": "1/7",
                "resolution_nm": None,
            }
            | ({"resolution_nm": table.frc.resolution_nm} if table.frc is not None else {}),
        }
        if frames:
            record["localizations"]["frames"] = {
                "frame": table.frames.tolist(),
                "n_truth": table.n_truth.tolist(),
                "n_found": table.n_found.tolist(),
                "n_matched": [
                    {"tolerance_nm": tolerance, "n": n.tolist()}
                    for (tolerance, _), n in zip(table.scores, table.n_matched, strict=True)
                ],
            }
    if picture is not None and image is not None:
        record["image"] = {
            "file": image.as_posix(),
            "shape": list(picture.image.shape),
            "pixel_size_nm": picture.pixel_size_nm,
            **asdict(picture.scores),
        }
    # msgspec writes NaN and infinity as null: JSON has no word for them.
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    with whole_file(path) as part:
        part.write_bytes(text + b"\n")
