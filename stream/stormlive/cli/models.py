"""``stormlive models``: what is installed, and how good it is."""

from rich.table import Table

from stormlive.cli.terminal import answers


def models() -> None:
    """List the models that ship with stormlive, with what they were trained for and how well they do."""
    from stormlive_models.checkpoint import read_card
    from stormlive_models.zoo import DEFAULT, shipped

    table = Table("name", "pixel", "canvas", "PSF σ, nm", "photons", "emitters/µm²", "Jaccard*")
    for name, path in shipped().items():
        card = read_card(path)
        data = card.training["data"]

        def span(key: str, data: dict[str, list[float]] = data) -> str:
            low, high = data[key]
            return f"{low:g}–{high:g}"

        scores: dict[str, dict[str, float]] = next(
            (v for k, v in card.metrics.items() if k.endswith("tolerance 100 nm")), {}
        )
        jaccard = " / ".join(f"{scores[d]['jaccard']:.2f}" for d in ("1/um2", "3/um2", "5/um2") if d in scores)
        table.add_row(
            f"{name} (default)" if name == DEFAULT else name,
            f"{card.pixel_size_nm:g} nm",
            f"×{card.upsampling}",
            span("psf_sigma_nm"),
            span("photons"),
            span("density_per_um2"),
            jaccard,
        )
    for column in table.columns:
        column.overflow = "fold"  # figures that are cut off are no figures
    answers.print(table)
    answers.print("A model takes cameras whose pixel is within 10 % of its own.")
    answers.print(
        "* at 1 / 3 / 5 emitters/µm², tolerance 100 nm, 1000 photons, background 10 photons/px; from the models' cards."
    )
