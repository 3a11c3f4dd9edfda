"""Is the picture to be trusted? What the frames and the canvas themselves say, without any truth to compare with."""
