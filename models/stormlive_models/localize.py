"""From livenet's maps to a table of localizations."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from stormlive_models.networks.livenet import Detections, LiveNet, Tile
from stormlive_sim.emitters import Emitters

_MERGE_PX = 0.65
# Summed probabilities from here on are two emitters: the best mean Jaccard index of the default model.
_PAIR = 1.35
_WHOLE = (slice(None), slice(None))


@dataclass(frozen=True, kw_only=True)
class Localizations:
    """A table of localizations, one row each time an emitter is found in a frame.

    Attributes
    ----------
    frame : Tensor
        int64 (N,), 0-based frame number.
    x_nm, y_nm : Tensor
        float32 (N,), position in nm; the origin is the outer corner of the first pixel, x along columns.
    photons : Tensor
        float32 (N,), photons of this emitter in this frame.
    sigma_x_nm, sigma_y_nm : Tensor
        float32 (N,), standard deviation of the position as the network predicts it.
    probability : Tensor
        float32 (N,), that there is an emitter, 0 to 1.
    """

    frame: Tensor
    x_nm: Tensor
    y_nm: Tensor
    photons: Tensor
    sigma_x_nm: Tensor
    sigma_y_nm: Tensor
    probability: Tensor

    def __len__(self) -> int:
        return self.frame.shape[0]

    def emitters(self) -> Emitters:
        """Return what can be compared with a truth."""
        return Emitters(frame=self.frame, x_nm=self.x_nm, y_nm=self.y_nm, photons=self.photons)

    @staticmethod
    def in_frame_order(tables: "list[Localizations]") -> "Localizations":
        """Return one table of all rows; those of one frame keep the order of `tables`."""
        if len(tables) == 1:
            return tables[0]
        order = torch.cat([table.frame for table in tables]).argsort(stable=True)
        names = [field.name for field in fields(Localizations)]
        return Localizations(**{name: torch.cat([getattr(t, name) for t in tables])[order] for name in names})


def localizations(
    found: Detections,
    pixel_size_nm: float,
    *,
    threshold: float = 0.45,
    within: tuple[slice, slice] = _WHOLE,
    corner_px: tuple[int, int] = (0, 0),
) -> Localizations:
    """Return one row per emitter found.

    Neighbouring pixels may share one emitter, each with a part of its probability. A pixel stands for an emitter
    when no neighbour of higher probability points to the same place (within 0.65 pixels), and the probabilities of
    those that do sum to at least `threshold`. Position and photons are their weighted mean, the uncertainty is the
    standard deviation of their mixture. Where the sum is 1.35 and more, two emitters are expected: two rows, one
    standard deviation to either side of the mean along the mixture's longer axis, where two equal ones would be.

    Parameters
    ----------
    found : Detections
        Maps (B, Y, X).
    pixel_size_nm : float
        Camera pixel.
    threshold : float
        Least summed probability; the default is the best mean Jaccard index of the default model at 0.3 to 6.35 /µm².
    within : tuple of slices
        (rows, columns): only emitters for which a pixel in there stands are returned.
    corner_px : tuple of int
        (row, column) of the first pixel in the frame.

    Returns
    -------
    Localizations
        `frame` is the index in the batch; rows lie in the order of frames, then of pixels.
    """
    p = torch.sigmoid(found.logit)
    photons = found.log_photons.exp()
    variance_x, variance_y = found.sigma_x_px.square(), found.sigma_y_px.square()
    stacked = torch.stack((p, found.x_px, found.y_px, photons, variance_x, variance_y), 1)
    padded = functional.pad(stacked, (1, 1, 1, 1))
    height, width = p.shape[1:]
    total, sums = torch.zeros_like(p), stacked.new_zeros(len(p), 8, height, width)
    is_peak = torch.ones_like(p).bool()
    for row in range(3):
        for column in range(3):
            near = padded[:, :, row : row + height, column : column + width]
            # Differences, because squares of positions in a large frame would cost float32 the last digits.
            dx, dy = near[:, 1] - found.x_px, near[:, 2] - found.y_px
            same = dx.square() + dy.square() < _MERGE_PX**2
            weight = near[:, 0] * same
            total += weight
            moments = (dx, dy, near[:, 3], near[:, 4], near[:, 5], dx.square(), dy.square(), dx * dy)
            sums += torch.stack(moments, 1) * weight[:, None]
            # Of two equal neighbours the first in reading order stands for both.
            first = (row, column) < (1, 1)
            is_peak &= ~same | (near[:, 0] < p if first else near[:, 0] <= p)
    peak = torch.zeros_like(is_peak)
    own = (..., *within)
    peak[own] = is_peak[own] & (total[own] >= threshold)
    dx, dy, brightness, own_xx, own_yy, xx, yy, xy = (sums[:, i][peak] / total[peak] for i in range(8))
    xx, yy, xy = xx - dx.square(), yy - dy.square(), xy - dx * dy
    # A pair takes the spread along the longer axis as its distance: what is left of it is the rows' uncertainty.
    pair = total[peak] >= _PAIR
    along = torch.atan2(2 * xy, xx - yy) / 2
    spread = ((xx + yy) / 2 + torch.hypot((xx - yy) / 2, xy)).clamp_min(0).sqrt() * pair
    to_x, to_y = spread * along.cos(), spread * along.sin()
    rows = torch.repeat_interleave(1 + pair.long())
    second = torch.zeros(len(rows), device=p.device)
    second[1:] = (rows.diff() == 0).float()
    side = 1 - 2 * second
    top, left = corner_px
    return Localizations(
        frame=peak.nonzero()[rows, 0],
        x_nm=((found.x_px[peak] + dx + left)[rows] + side * to_x[rows]) * pixel_size_nm,
        y_nm=((found.y_px[peak] + dy + top)[rows] + side * to_y[rows]) * pixel_size_nm,
        photons=brightness[rows],
        sigma_x_nm=(own_xx + (xx - to_x.square()).clamp_min(0))[rows].sqrt() * pixel_size_nm,
        sigma_y_nm=(own_yy + (yy - to_y.square()).clamp_min(0))[rows].sqrt() * pixel_size_nm,
        probability=(total[peak][rows] - second).clamp_max(1),
    )


@torch.no_grad()
def localize(network: torch.nn.Module, photons: Tensor, pixel_size_nm: float) -> Emitters:
    """Return the localizations of frames (B, Y, X) in photons, to be scored; the network has detection heads."""
    found = network(photons)
    if not isinstance(found, Detections):
        raise TypeError(f"expected a network with detection heads, got {type(network).__name__}")
    return localizations(found, pixel_size_nm).emitters()


@torch.no_grad()
def add_and_localize(network: LiveNet, photons: Tensor, canvas: Tensor, pixel_size_nm: float) -> Localizations:
    """Add frames (B, Y, X) to `canvas` as `network.add_increment` does, and return what the same pass localizes."""
    tables = []
    for tile in network.tiles(photons):
        network.render(tile, canvas)
        tables.append(localized(tile, pixel_size_nm))
    return Localizations.in_frame_order(tables)


def localized(tile: Tile, pixel_size_nm: float) -> Localizations:
    """Return the localizations of a tile; `frame` is the index in its batch, positions are those in the frame."""
    corner = (tile.row, tile.column)
    found = localizations(tile.found, pixel_size_nm, within=tile.core, corner_px=corner)
    return replace(found, frame=found.frame + tile.first) if tile.first else found
