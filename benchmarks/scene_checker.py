"""What is in a picture of a drawn scene, told from its pixels alone, and whether that is what was asked for.

Written apart from the drawing code: of training/ only the tables of names and colours are used. `read` looks
without knowing what was asked, `check` compares. Nothing is accepted by default: a colour between two names,
a shape between two outlines, a blob too many, noise or an empty picture read as None and count as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..training.words import COLOURS, POSITIONS, RELATIONS, SIZES
from . import scene_shapes
from .scene_shapes import Fit, Mask

SIDE = 128
BORDER = 5  # pixels at the rim that vote for the background
SEEDS = 24  # pixels well inside one colour that make it one of the picture's colours
SPECK = 40  # pixels below which a blob is dirt
FRINGE = 200  # pixels; the smallest object, a small star, has 310
MARGIN = 0.04  # least lead in likeness over the next shape, for a likeness of LEAST and more
FAIR, AHEAD = 0.80, 0.12  # a rougher outline still counts if it is like no other shape
FAR, BETWEEN = (
    32.0,
    0.80,
)  # largest CIELAB distance to a named colour, and its largest ratio to the next
SAME = 15.0  # CIELAB distance below which two colours found are one
NOISE = 26.0  # largest mean distance (sRGB levels) of pixels to the colours found
OFF_CENTRE = 0.45  # of the free room: beyond it, an object is at a side

_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Blob:
    """One object found; `shape`, `colour` are None where the picture does not decide."""

    shape: str | None
    colour: str | None
    fit: Fit
    mask: Mask = field(repr=False)
    behind: bool = False

    @property
    def size(self) -> str:
        """The named size nearest in ratio."""
        return min(SIZES, key=lambda name: abs(np.log(self.fit.extent / SIZES[name])))

    @property
    def position(self) -> str:
        """The named position, from the middle of the bounding box relative to the room the object has."""
        steps = []
        for axis in (1, 0):
            low, high = _span(self.mask, axis)
            room = max(SIDE - (high - low), 8)
            off = (high + low - SIDE) / room
            steps.append(int(np.sign(off)) if abs(off) > OFF_CENTRE else 0)
        return next(name for name, step in POSITIONS.items() if step == tuple(steps))


@dataclass(frozen=True)
class Reading:
    """Background colours (empty: not decided), stripe direction, objects from large to small, and `noise`."""

    background: tuple[str, ...]
    stripes: str | None
    blobs: tuple[Blob, ...]
    noise: float


@dataclass(frozen=True)
class Thing:
    """An object asked for; None = not said."""

    shape: str
    colour: str
    size: str | None = None
    position: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a prompt asks for. `relation` holds of things[0] seen from things[1]."""

    things: tuple[Thing, ...]
    background: tuple[str, ...]
    stripes: str | None = None
    relation: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What is right. `objects`: every thing found with its shape and colour, and nothing else there."""

    shape: bool
    colour: bool
    background: bool
    objects: bool
    size: bool | None
    position: bool | None
    relation: bool | None

    @property
    def right(self) -> bool:
        """Shapes, colours and background as asked."""
        return self.objects and self.background


def check(picture: NDArray[np.uint8], wanted: Wanted) -> Verdict:
    """Compare what `read` finds with what was asked."""
    return judge(read(picture), wanted)


def judge(found: Reading, wanted: Wanted) -> Verdict:
    """The verdict on a reading; nothing counts as right where it holds another number of objects."""
    things, blobs = wanted.things, found.blobs
    background = sorted(found.background) == sorted(wanted.background) and (
        found.stripes is None if len(wanted.background) == 1 else wanted.stripes in (None, found.stripes)
    )
    if len(blobs) != len(things):
        asked = _extras(wanted)
        return Verdict(False, False, background, False, *(None if a is None else False for a in asked))
    pairs = _match(things, blobs)
    same = [(t.shape == b.shape, t.colour == b.colour) for t, b in pairs]
    objects = all(s and c for s, c in same)
    size, position, relation = _extras(wanted)
    return Verdict(
        shape=all(s for s, _ in same),
        colour=all(c for _, c in same),
        background=background,
        objects=objects,
        size=size and all(t.size in (None, b.size) for t, b in pairs),
        position=position and all(t.position in (None, b.position) for t, b in pairs),
        relation=relation and objects and holds(str(wanted.relation), pairs[0][1], pairs[1][1]),
    )


def holds(relation: str, first: Blob, second: Blob) -> bool:
    """Does `relation` hold of `first` seen from `second`?"""
    step = RELATIONS[relation]
    if step is None:
        return second.behind and not first.behind
    dx, dy = first.fit.x - second.fit.x, first.fit.y - second.fit.y
    along, across = (dx * step[0], dy) if step[0] else (dy * step[1], dx)
    return along > abs(across) and along > 0.1


def read(picture: NDArray[np.uint8]) -> Reading:
    """What the picture [128, 128, 3] holds."""
    if picture.shape != (SIDE, SIDE, 3):
        raise ValueError(f"scene_checker reads pictures of shape ({SIDE}, {SIDE}, 3), got {picture.shape}")
    smooth = _smooth(picture)
    labels = _nearest(_lab(smooth), _PALETTE)
    centres = _colours(smooth, labels)
    if not centres:
        return Reading((), None, (), float("inf"))
    distance = np.linalg.norm(smooth[..., None, :] - np.stack(centres), axis=-1)
    parts = _parts(distance)
    noise = float(np.abs(picture - np.stack(centres)[parts]).mean())
    ground, stripes = _background(parts, len(centres))
    if noise > NOISE or not ground:
        return Reading((), None, (), noise)
    objects = [k for k in range(len(centres)) if k not in ground]
    _drop_halos(parts, distance, objects)
    # An eighth of the pixels tells the median as well.
    named = [_name(smooth[parts == k][::8]) for k in range(len(centres))]
    names = [named[k] for k in ground]
    blobs = _blobs(parts, objects, named)
    known = () if None in names else tuple(str(n) for n in names)
    return Reading(known, stripes, blobs, noise)


def _extras(wanted: Wanted) -> tuple[bool | None, bool | None, bool | None]:
    """True for each of size, position and relation that was asked for, else None."""
    asked = (
        any(t.size for t in wanted.things),
        any(t.position for t in wanted.things),
        wanted.relation is not None,
    )
    return tuple(True if a else None for a in asked)  # type: ignore[return-value]


def _match(things: Sequence[Thing], blobs: Sequence[Blob]) -> list[tuple[Thing, Blob]]:
    """The pairing of things with blobs that agrees best."""

    def agreement(order: Sequence[Blob]) -> int:
        return sum((t.shape == b.shape) + (t.colour == b.colour) for t, b in zip(things, order, strict=True))

    orders = [list(blobs)] if len(blobs) < 2 else [list(blobs), list(reversed(blobs))]
    return list(zip(things, max(orders, key=agreement), strict=True))


def _span(mask: Mask, axis: int) -> tuple[int, int]:
    at = np.flatnonzero(mask.any(1 - axis))
    return int(at[0]), int(at[-1]) + 1


def _lab(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """CIELAB (D65) of sRGB levels 0..255 (IEC 61966-2-1, CIE 15)."""
    linear = _LINEAR[np.clip(np.rint(rgb), 0, 255).astype(np.int64)]
    xyz = linear @ _XYZ
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
_XYZ = (
    np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    / np.array([[0.9505], [1.0], [1.089]])
).T.astype(np.float32)
_PALETTE = _lab(np.array(list(COLOURS.values()), np.float32))


def _nearest(pixels: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    # |p - c|^2 without |p|^2, which is the same for all centres
    return ((centres**2).sum(-1) - 2 * pixels @ centres.T).argmin(-1)


def labelled(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of the named colour nearest to each pixel of the softened picture."""
    return _nearest(_lab(_smooth(picture)), _PALETTE)


def _smooth(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(picture.astype(np.float32), (1.0, 1.0, 0), truncate=2.0)


def nearest_colours(pixels: NDArray[np.generic]) -> tuple[str, float, float]:
    """(name nearest to the median of some pixels [n, 3], its CIELAB distance, the next name's distance)."""
    distance = np.linalg.norm(_PALETTE - _lab(np.median(pixels, axis=0)), axis=-1)
    first, second = np.argsort(distance)[:2]
    return _NAMES[first], float(distance[first]), float(distance[second])


def _name(pixels: NDArray[np.float32]) -> str | None:
    """The palette's name of the median of some pixels, None if it is far from all or between two."""
    if not len(pixels):
        return None
    name, distance, other = nearest_colours(pixels)
    return None if distance > FAR or distance > BETWEEN * other else name


def _colours(smooth: NDArray[np.float32], labels: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """Median sRGB of the pixels whose whole 5x5 neighbourhood is nearest to one name, most frequent first.

    Two that differ by less than SAME are one colour that wavers between two names.
    """
    same = ndimage.minimum_filter(labels, 5) == ndimage.maximum_filter(labels, 5)
    counts = np.bincount(labels[same], minlength=len(_NAMES))
    found: list[NDArray[np.float32]] = []
    for k in np.argsort(-counts):
        if counts[k] < SEEDS:
            break
        median = np.median(smooth[same & (labels == k)][::4], axis=0)
        if all(np.linalg.norm(_lab(median) - _lab(other)) >= SAME for other in found):
            found.append(median)
    return found


def _parts(distance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the colour every pixel belongs to, from its distances [128, 128, k] to them.

    The rim between two colours passes near others: what is thin or small goes to the next nearest colour.
    """
    parts = distance.argmin(-1)
    for k in range(distance.shape[-1]):
        _give_away(parts, distance, k, (parts == k) & ~_solid(parts == k))
    return parts


def _give_away(parts: NDArray[np.int64], distance: NDArray[np.float32], k: int, pixels: Mask) -> None:
    """Let pixels of colour k belong to the nearest other colour."""
    if distance.shape[-1] > 1:
        others = distance[pixels]
        others[:, k] = np.inf
        parts[pixels] = others.argmin(-1)


def _drop_halos(parts: NDArray[np.int64], distance: NDArray[np.float32], objects: list[int]) -> None:
    """Fringes around an object of another colour are part of it or of the ground, not one more object.

    A fringe is up to six pixels wide, or smaller than any object where its colour has nothing larger.
    """
    cores = {k: ndimage.binary_erosion(parts == k, np.ones((3, 3)), iterations=3) for k in objects}
    for k in objects:
        labels, count = ndimage.label(parts == k)
        thick = np.bincount(labels[cores[k]], minlength=count + 1) > 0
        large = np.bincount(labels.ravel(), minlength=count + 1) >= FRINGE
        solid = np.isin(parts, [o for o in objects if o != k and cores[o].any()])
        near = ndimage.binary_dilation(solid, iterations=4)
        fringe = np.bincount(labels[near], minlength=count + 1) > 0
        fringe &= ~thick if (thick & large)[1:].any() else ~(thick & large)
        fringe[0] = False
        _give_away(parts, distance, k, fringe[labels])


def _solid(mask: Mask) -> Mask:
    """The mask without lines up to two pixels wide and without specks."""
    opened = ndimage.binary_opening(mask, np.ones((3, 3)))
    kept, count = ndimage.label(mask & ndimage.binary_dilation(opened, np.ones((3, 3))))
    big = np.bincount(kept.ravel(), minlength=count + 1) >= SPECK
    big[0] = False
    return big[kept]


def _background(parts: NDArray[np.int64], count: int) -> tuple[tuple[int, ...], str | None]:
    """(colour indices of the background, stripe direction); no index if the rim does not decide."""
    rim = np.ones_like(parts, bool)
    rim[BORDER:-BORDER, BORDER:-BORDER] = False
    shares = np.bincount(parts[rim], minlength=count) / rim.sum()
    order = np.argsort(-shares)
    if shares[order[0]] > 0.7:
        return (int(order[0]),), None
    if count < 2 or shares[order[1]] < 0.25 or shares[order[:2]].sum() < 0.8:
        return (), None
    for direction, axis in (("horizontal", 1), ("vertical", 0)):
        if _striped(parts, int(order[0]), int(order[1]), axis):
            return (int(order[0]), int(order[1])), direction
    return (), None


def _striped(parts: NDArray[np.int64], first: int, second: int, axis: int) -> bool:
    """Do the two colours alternate in at least five straight bands across the axis?"""
    sign = (parts == first).astype(np.float32) - (parts == second)
    lines = sign.sum(axis)
    agreement = np.abs(lines).sum() / max(np.abs(sign).sum(), 1)
    bands = np.sign(lines[lines != 0])
    return bool(agreement > 0.85 and 4 <= (bands[1:] != bands[:-1]).sum() <= 12)


def _blobs(parts: NDArray[np.int64], objects: list[int], named: list[str | None]) -> tuple[Blob, ...]:
    """Objects of the given colours; two that touch are taken as one in front of the other."""
    masks = [(k, mask) for k in objects for mask in _components(parts == k, parts, objects)]
    if len(masks) == 2 and (ndimage.binary_dilation(masks[0][1], iterations=2) & masks[1][1]).any():
        return _touching(masks, named)
    blobs = [_blob(scene_shapes.whole(mask), named[k], mask) for k, mask in masks]
    return tuple(sorted(blobs, key=lambda b: -int(b.mask.sum())))


def _components(mask: Mask, parts: NDArray[np.int64], objects: list[int]) -> list[Mask]:
    """Connected pieces; pieces of one colour that another object lies between or beside are one object."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    pieces = [labels == k for k in range(1, count + 1) if sizes[k] >= SPECK]
    others = np.isin(parts, objects) & ~mask
    if len(pieces) < 2 or not others.any():
        return pieces
    near = ndimage.binary_dilation(others, iterations=2)
    beside = [p for p in pieces if (p & near).any()]
    apart = [p for p in pieces if not (p & near).any()]
    return ([np.logical_or.reduce(beside)] if beside else []) + apart


def _touching(masks: list[tuple[int, Mask]], named: list[str | None]) -> tuple[Blob, ...]:
    """The one whose outline is whole lies in front; the other is searched for, the front area unknown."""
    fits = [scene_shapes.whole(mask) for _, mask in masks]
    front = int(fits[1].score > fits[0].score)
    (fk, fmask), (bk, bmask) = masks[front], masks[1 - front]
    back = scene_shapes.hidden(bmask, fmask)
    covered = back.cover is not None and scene_shapes.overlap(back.cover, fmask) > 0.04
    return (_blob(fits[front], named[fk], fmask), _blob(back, named[bk], bmask, behind=covered))


def _blob(fit: Fit, colour: str | None, mask: Mask, behind: bool = False) -> Blob:
    least, ahead = scene_shapes.LEAST[fit.shape], fit.margin
    sure = (fit.score >= least and ahead >= MARGIN) or (fit.score >= FAIR and ahead >= AHEAD)
    return Blob(fit.shape if sure else None, colour, fit, mask, behind)
