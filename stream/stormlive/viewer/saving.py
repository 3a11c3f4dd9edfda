"""What the user keeps of what is seen: a picture of the view, the data behind it."""

from pathlib import Path

from PIL import Image

from stormlive.output.ome_tiff import write_image
from stormlive.viewer.offscreen import render
from stormlive.viewer.scene import LiveScene
from stormlive.viewer.view import Picture, Visible
from stormlive_sim.atomic import whole_file
from stormlive_sim.errors import InputError


def save_view(scene: LiveScene, path: Path) -> None:
    """Write what is seen as PNG, with its scale bars."""
    picture = Image.fromarray(render(scene))
    with whole_file(path) as part:
        picture.save(part, format="PNG")


def save_visible(scene: LiveScene, path: Path) -> None:
    """Write the visible part of the canvas as OME-TIFF, as finely as it is shown.

    Raises
    ------
    InputError
        When nothing is shown.
    """
    shown = scene.shown
    part = None if shown is None else cut(shown.superres, scene.superres.visible())
    if shown is None or part is None:
        raise InputError("there is no canvas in sight; show the whole field (R) and save again")
    save_picture(path, part, f"visible part, from x {part.x_nm:g} nm, y {part.y_nm:g} nm; {shown.status}")


def save_picture(path: Path, picture: Picture, description: str) -> None:
    """Write a picture of the canvas as OME-TIFF."""
    write_image(path, picture.pixels, picture.pixel_size_nm, name="stormlive", description=description)


def cut(picture: Picture, part: Visible) -> Picture | None:
    """Return the pixels of a picture that are at least partly in sight; None where none is."""
    size_nm = picture.pixel_size_nm
    x, y = part.x_nm - picture.x_nm, part.y_nm - picture.y_nm
    left, top = (int(max(0.0, edge // size_nm)) for edge in (x, y))
    right, bottom = (int(max(0.0, -(-edge // size_nm))) for edge in (x + part.width_nm, y + part.height_nm))
    pixels = picture.pixels[top:bottom, left:right]
    if not pixels.size:
        return None
    return Picture(
        pixels=pixels, pixel_size_nm=size_nm, x_nm=picture.x_nm + left * size_nm, y_nm=picture.y_nm + top * size_nm
    )
