"""Number types of the simulation's settings, with the limits within which they make sense.

The limits are checked where settings are read from a file; they also turn away ``nan``.
"""

from typing import Annotated

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0, le=1e6)]
Positive = Annotated[float, Meta(ge=1e-6, le=1e6)]
Density = Annotated[float, Meta(ge=1e-3, le=1e4)]
Signed = Annotated[float, Meta(ge=-1e5, le=1e5)]
# A time constant or a width that may be infinite: no bleaching, even illumination.
Unbounded = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Few = Annotated[int, Meta(ge=1, le=100)]
Seed = Annotated[int, Meta(ge=0, le=2**62)]
