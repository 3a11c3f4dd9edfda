"""``stormlive models``: what is installed, and how good it is."""

from typing import TYPE_CHECKING

from rich.table import Table

from stormlive.cli.terminal import answers

if TYPE_CHECKING:
    from stormlive_models.checkpoint import ModelCard


def models() -> None:
    """List the models that ship with stormlive, with what they were trained for and how well they do."""
    import torch

    from stormlive_models.checkpoint import read_card
    from stormlive_models.zoo import CEL0, DEFAULT, camera_pixels_nm, family, open_model, shipped

    cards = {name: read_card(path) for name, path in shipped().items()}
    table = Table("name", "camera\npixel, nm", "canvas", "PSF\nσ, nm", "photons", "emitters\n/µm²", "Jaccard*")
    for name, card in cards.items():
        data = card.training["data"]
        about = "\n(default)" if name == DEFAULT else "\n(neighbours)" if card.context else ""
        table.add_row(
            name + about,
            _camera_pixels(card),
            f"×{card.upsampling}",
            *(_span(data[key]) for key in ("psf_sigma_nm", "photons", "density_per_um2")),
            _jaccard(card),
        )
    cel0 = open_model(CEL0, torch.device("cpu")).card
    sigma = f"{cel0.arguments['psf_sigma_nm']:g}"
    table.add_row(CEL0, "any", f"×{cel0.upsampling}", sigma, "any", "–", "–")
    for column in table.columns:
        column.overflow = "fold"  # figures that are cut off are no figures
    table.columns[0].no_wrap = True
    answers.print(table)
    for name in cards:
        if len(names := family(name)) > 1:
            pixels = " or ".join(_span(span) for span in camera_pixels_nm(cards[member] for member in names))
            answers.print(
                f"--model {name} takes {' or '.join(names)}, whichever suits the camera: pixels of {pixels} nm."
            )
    answers.print("2x2: of such small pixels four are summed to one first; the canvas then has half as many for each.")
    answers.print(
        "* at 1 / 3 / 5 emitters/µm², tolerance 100 nm, 1000 photons, background 10 photons/px; from the models' cards."
    )
    if any(card.context for card in cards.values()):
        answers.print(
            "neighbours: it looks at the frames before and after each one, so its live picture is a frame behind; its "
            "Jaccard is that of emitters on for 2 frames on average."
        )


def _span(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g}–{limits[1]:g}"


def _camera_pixels(card: "ModelCard") -> str:
    spans = card.camera_pixels_nm
    return _span(spans[1]) + (f"\n2x2: {_span(spans[2])}" if 2 in spans else "")


def _jaccard(card: "ModelCard") -> str:
    scores: dict[str, dict[str, float]] = next(
        (v for k, v in card.metrics.items() if k.endswith("tolerance 100 nm")), {}
    )
    return " / ".join(f"{scores[d]['jaccard']:.2f}" for d in ("1/um2", "3/um2", "5/um2") if d in scores)
