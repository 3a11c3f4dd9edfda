"""Which cameras a model takes; without torch, so that who only asks need not import it."""

from collections.abc import Sequence

from stormlive_sim.errors import InputError


def check_pixel_size(model: str, takes_nm: Sequence[tuple[float, float]], camera_nm: float) -> None:
    """Raise an InputError unless the camera's pixel is in one of the (least, greatest) that a model takes."""
    if not any(low <= camera_nm <= high for low, high in takes_nm):
        ranges = " or ".join(f"{low:g} to {high:g}" for low, high in takes_nm)
        raise InputError(
            f"the model {model!r} takes camera pixels of {ranges} nm, this camera has {camera_nm:g} nm; correct "
            "--pixel-size-nm or choose another --model (`stormlive models` lists them)"
        )
