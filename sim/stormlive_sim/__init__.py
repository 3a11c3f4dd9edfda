"""The physics: what a sample of blinking emitters emits and what a camera makes of it.

Positions are nanometres ``(x, y)``, x along columns; the origin is the outer corner of the first pixel, so the
centre of pixel (0, 0) lies at half a pixel. Importing this package is light; its modules import torch.
"""
