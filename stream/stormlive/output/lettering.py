"""Text on pictures, with the one font that pillow brings along on every machine."""

from bisect import bisect_right
from functools import cache

from PIL import Image, ImageDraw, ImageFont


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


@cache
def _ink(character: str, size_px: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is really drawn, from the start of the baseline."""
    sheet = Image.new("L", (4 * size_px, 4 * size_px))
    ImageDraw.Draw(sheet).text((size_px, 2 * size_px), character, font=_font(size_px), fill=255, anchor="ls")
    # Faint edges are not counted: the stem that is measured here is drawn without any.
    left, top, right, bottom = sheet.point(lambda value: 255 if value > 127 else 0).getbbox() or (0, 0, 0, 0)
    return left - size_px, top - 2 * size_px, right - size_px, bottom - 2 * size_px


def text_width_px(text: str, size_px: int) -> int:
    """Return the width of `text` in pixels."""
    return round(_font(size_px).getlength(text.replace("µ", "u")))


def fitting(text: str, size_px: int, most_px: int) -> str:
    """Return `text`, or as much of its beginning as is at most `most_px` wide with the dots that stand for the rest."""
    if text_width_px(text, size_px) <= most_px:
        return text
    n = bisect_right(range(len(text)), most_px, key=lambda n: text_width_px(f"{text[:n]}...", size_px))
    return f"{text[: max(0, n - 1)].rstrip()}..."


def draw_text(
    picture: Image.Image, x: int, baseline: int, text: str, size_px: int, colour: tuple[int, int, int]
) -> None:
    """Draw a line of `text` from `x` to the right, standing on `baseline`.

    The font has no µ: it is drawn as a u whose left stem reaches down as far as a p.
    """
    draw = ImageDraw.Draw(picture)
    font = _font(size_px)
    for index, stretch in enumerate(text.split("µ")):
        if index:
            left, top, _, _ = _ink("u", size_px)
            stem_left, _, stem_right, _ = _ink("i", size_px)
            stem = (x + left, baseline + top, x + left + stem_right - stem_left - 1)
            draw.rectangle((*stem, baseline + _ink("p", size_px)[3] - 1), fill=colour)
            stretch = "u" + stretch
        draw.text((x, baseline), stretch, font=font, fill=colour, anchor="ls")
        x += round(font.getlength(stretch))
