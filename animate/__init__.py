"""Clips: motion modules of AnimateDiff, windows over more frames than one takes, and the noise clips start from."""
