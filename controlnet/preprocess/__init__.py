"""Preprocessors: pictures -> hints. The order of the imports is the order of every list."""

from . import tones, canny, lines, inpaint  # noqa: F401, I001
from . import depth, installed, segment  # noqa: F401
from .spec import PREPROCESSORS, Preprocessor, preprocess, preprocessor

__all__ = ["PREPROCESSORS", "Preprocessor", "preprocess", "preprocessor"]
