"""What the fast ways to compute the networks on this CPU cost in accuracy, beside plain float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from unittest.mock import patch

from _accuracy_frames import BACKGROUND, READ_NOISE, SIGMA_PX, seeded, simulated, uniform_settings
from _accuracy_methods import Method, Result
from _accuracy_table import DETAIL, Table, verdict
from _accuracy_uniform import DENSITIES

from stormlive_models.evaluate import score
from stormlive_models.networks.livenet import LiveNet
from stormlive_models.runtime import OPENVINO, TORCH, TORCH_BF16, accelerate
from stormlive_sim.errors import InputError

MOST_LOST = 0.003
"""Of the Jaccard index, that a fast way may lose."""

_PHOTONS, _TOLERANCES_NM = 1000.0, (50.0, 100.0)
_PLAIN, _OPENVINO_FLOAT32 = "torch float32", "openvino float32"
_NAMES = {_PLAIN: TORCH, "torch bfloat16": TORCH_BF16, "openvino": OPENVINO, _OPENVINO_FLOAT32: OPENVINO}


def runtimes(methods: list[Method], n: int, seed: int) -> list[Table]:
    """Return the scores of each of our networks by each runtime, on the same frames."""
    conditions = [
        (density, simulated(uniform_settings(density), n, seeded(seed, f"uniform {density:g} {_PHOTONS:g}")))
        for density in DENSITIES
    ]
    rows, lacking = list[dict[str, Any]](), dict[str, str]()
    for method in methods:
        network = method.model.network
        if not isinstance(network, LiveNet):
            continue
        plain: dict[float, Result] = {}
        for name, runtime in _NAMES.items():
            try:
                with _full_precision(name == _OPENVINO_FLOAT32):
                    accelerate([network], runtime)
            except InputError as error:
                lacking[name] = str(error)
                continue
            for density, frames in conditions:
                result = method.run(frames.photons)
                base = plain.setdefault(density, result)
                near, middle = (score(result.table, frames.truth, t) for t in _TOLERANCES_NM)
                before = score(base.table, frames.truth, _TOLERANCES_NM[1])
                same = score(result.table, base.table, _TOLERANCES_NM[1])
                lost = before.jaccard - middle.jaccard
                rows.append(
                    {
                        "model": method.name,
                        "runtime": name,
                        "per um2": density,
                        "J(50)": near.jaccard,
                        "J(100)": middle.jaccard,
                        "lost": lost,
                        "aim": "" if result is base else verdict(lost, at_most=MOST_LOST),
                        "RMSE(100) nm": middle.rmse_nm,
                        "same emitters": same.jaccard,
                        "moved, nm": same.rmse_nm,
                        "canvas": result.canvas.sum().item(),
                        "canvas moved %": 100 * _moved(result, base),
                        DETAIL: {f"{t:g} nm": asdict(s) for t, s in zip(_TOLERANCES_NM, (near, middle), strict=True)},
                    }
                )
        accelerate([network], TORCH)
    missing = "".join(f" {name} is not here ({why})." for name, why in lacking.items())
    return [
        Table(
            title="Accuracy of the fast paths",
            conditions=f"{n} frames of 64x64 px of 100 nm, {_PHOTONS:g} photons, PSF sigma {SIGMA_PX:g} px, background "
            f"{BACKGROUND:g} photons/px, sCMOS (read noise {READ_NOISE['sCMOS']:g} e): the same for all. Lost: of "
            f"J(100), to {_PLAIN}. Same emitters: Jaccard index of its table with that of {_PLAIN}, at 100 nm; moved: "
            "the lateral RMS distance of those pairs; canvas moved: sum of the differences. OpenVINO computes in "
            f"bfloat16 where the processor can, unless it says float32.{missing}",
            rows=rows,
        )
    ]


def lossy(tables: list[Table]) -> list[str]:
    """Return the models and runtimes that lose more than they may."""
    rows = [row for table in tables for row in table.rows]
    return sorted({f"{row['model']} by {row['runtime']}" for row in rows if row["lost"] > MOST_LOST})


def _moved(result: Result, base: Result) -> float:
    """Return the sum of the differences of two canvases as a share of the second one's sum."""
    return ((result.canvas - base.canvas).abs().sum() / base.canvas.sum()).item()


@contextmanager
def _full_precision(wanted: bool) -> Iterator[None]:
    """Have OpenVINO compile for float32."""
    if not wanted:
        yield
        return
    try:
        from openvino import Core
    except ImportError:
        yield  # `accelerate` says so
        return
    compiled = Core.compile_model

    def exactly(core: Core, model: object, device: str, settings: dict[str, Any]) -> object:
        return compiled(core, model, device, {**settings, "INFERENCE_PRECISION_HINT": "f32"})

    with patch.object(Core, "compile_model", exactly):
        yield
