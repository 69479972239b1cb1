"""The adapters on a model's networks: which are loaded, which act and how strongly, which are merged, what a run adds.

Adapters loaded with `load` are kept apart from the weights (terms added while a network runs) until `fuse` merges them.
Those of a run's prompt are merged, and only what moves over the run is kept apart. All strengths stand on the original
weights, so the order in which things are done never matters, and what is taken out leaves no bit behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..core.errors import OptionError, nearest
from ..loras import Bound, Forward, Fused, LoadReport, Strength, Targets, bind, read_lora
from ..loras.bind import examine
from ..loras.curve import Place
from ..loras.delta import Delta
from ..loras.forward import Term, hookable
from ..loras.targets import MOTION, NETWORKS
from .compiled import thaw
from .lora_source import Folders

Networks = Mapping[str, nn.Module]
Acting = list[tuple[Bound, Strength]]


@dataclass(frozen=True)
class Wiring:
    """What changes weights and adds terms, by patch key; the layers that terms can be added to; compiled networks."""

    fused: Fused
    forward: Forward
    layers: dict[str, nn.Module]
    compiled: frozenset[str]


class Loras:
    """The adapters of one model. ``networks`` names its networks (unet, text_encoder, text_encoder_2) when asked."""

    def __init__(self, networks: Callable[[], Networks], label: str = "this model") -> None:
        self._networks = networks
        self._label = label
        self.folders = Folders()
        self.loaded: dict[str, Bound] = {}
        self.active: dict[str, Strength] = {}
        self.fused: dict[str, Strength] = {}
        self.enabled = True
        self.force = False
        self.warn: Callable[[str], None] = logging.getLogger("sigmagraft").warning
        self.before: Callable[[], Any] = lambda: None  # weights change; an offload takes them off the device
        self._of_run: Acting = []
        self._kept: dict[tuple[Path, float], Bound] = {}
        self._wiring: Wiring | None = None
        self._targets: Targets | None = None

    @property
    def targets(self) -> Targets:
        """The weights of the networks, and what files call them."""
        if self._targets is None:
            named = {
                name: {key: tuple(value.shape) for key, value in plain(network).named_parameters()}
                for name, network in self._networks().items()
            }
            texts = [named[name] for name in NETWORKS[1:] if name in named]
            self._targets = Targets.of(named["unet"], texts, self._label, named.get(MOTION))
        return self._targets

    def renew(self, networks: Callable[[], Networks] | None = None) -> None:
        """The networks are others now: the old ones get their weights back, every adapter finds its places anew."""
        if self._wiring is not None:
            self.before()
            self._wiring.forward.put(self._wiring.forward.prepare({}))
            self._wiring.fused.apply({})
        self._wiring, self._targets, self._of_run, self._kept = None, None, [], {}
        self._networks = networks or self._networks
        if self.loaded:
            self.loaded = {name: examine(bound.file, self.targets) for name, bound in self.loaded.items()}
            self.refresh()

    @property
    def wiring(self) -> Wiring:
        """Parameters and layers; made once."""
        if self._wiring is None:
            self._wiring = wire(self._networks())
        return self._wiring

    def bind(self, path: str | Path, force: bool = False) -> Bound:
        """Read a file and find the weights it changes; nothing changes. FileError where it does not fit.

        Tensors that are not used are told to ``warn``.
        """
        bound = bind(read_lora(path), self.targets, force or self.force)
        for text in bound.report.warnings():
            self.warn(text)
        return bound

    def kept(self, path: Path) -> Bound:
        """As `bind`, and the file stays open as long as runs ask for it without another in between."""
        key = (path, path.stat().st_mtime)
        if key not in self._kept:
            self._kept[key] = self.bind(path)
        return self._kept[key]

    def load(self, path: str | Path, name: str | None = None, force: bool = False) -> LoadReport:
        """Load an adapter under a name; it acts at strength 1, and those loaded before wait until `set` names them.

        FileError, OptionError for a name there is already.
        """
        if name is None:
            name = next(
                f"default_{n}" for n in range(len(self.loaded) + 1) if f"default_{n}" not in self.loaded
            )
        if name in self.loaded:
            raise OptionError(
                f"an adapter is named {name!r} already", todo="give another name or delete that one"
            )
        bound = self.bind(path, force)
        before = self.active
        self.loaded[name], self.active = bound, {name: Strength()}

        def undo() -> None:
            del self.loaded[name]
            self.active = before

        self._or_undo(undo)
        return bound.report

    def set(self, strengths: Mapping[str, Strength]) -> None:
        """Makes exactly these adapters act, so strongly."""
        self._known(strengths)
        before = self.active
        self.active = dict(strengths)
        self._or_undo(lambda: setattr(self, "active", before))

    def fuse(self, names: Iterable[str] | None = None, scale: float = 1.0) -> None:
        """Merges adapters (None: those that act) into the weights."""
        names = list(self.active if names is None else names)
        self._known(names)
        before = self.fused
        chosen = {name: self.active.get(name, Strength()).times(scale) for name in names}
        moving = [name for name, strength in chosen.items() if strength.curves]
        if moving:
            raise OptionError(
                f"the strength of {moving[0]!r} moves over the run", todo="set a fixed strength to fuse it"
            )
        self.fused = self.fused | chosen
        self._or_undo(lambda: setattr(self, "fused", before))

    def unfuse(self) -> None:
        """Gives every weight back as the model had it; the adapters act apart again."""
        before, self.fused = self.fused, {}
        self._or_undo(lambda: setattr(self, "fused", before))

    def delete(self, names: Iterable[str]) -> None:
        """Forgets adapters, merged or not."""
        names = list(names)
        self._known(names)
        for name in names:
            self._drop(name)
        self.refresh()
        self._release()

    def clear(self) -> None:
        """Forgets all adapters, those of the last run's prompt too."""
        self.loaded, self.active, self.fused, self._of_run, self._kept = {}, {}, {}, [], {}
        self.refresh()
        self._release()

    def for_run(self, acting: Acting) -> None:
        """The adapters that a run's prompt asks for, in place of those of the last run.

        They stay until the next run asks for others: drawing many pictures merges once. What taking out left for a
        next merge is given back.
        """
        if acting != self._of_run:
            self._exchange(acting)
        self._release()

    def _exchange(self, acting: Acting) -> None:
        before, self._of_run = self._of_run, acting
        self._or_undo(lambda: setattr(self, "_of_run", before))
        used = [bound for bound, _ in acting]
        self._kept = {key: bound for key, bound in self._kept.items() if bound in used}

    def at(self, place: Place) -> None:
        """Moves the strengths that change over the run."""
        if self._wiring is not None and self.moving:
            self._wiring.forward.at(place)

    @property
    def moving(self) -> bool:
        """Whether any strength changes over the run."""
        apart = self.active.values() if self.enabled else ()
        return any(s.curves for s in apart) or any(s.curves for _, s in self._of_run)

    def originals(self) -> dict[str, Tensor]:
        """The weights that are changed now, as the model had them."""
        return dict(self._wiring.fused.originals) if self._wiring is not None else {}

    def refresh(self) -> None:
        """Brings weights and terms to what is said above. Whatever stops it, the weights are as before."""
        if self._wiring is None and not (self.loaded or self._of_run):
            return
        self.before()
        wiring = self.wiring
        merged: dict[str, list[tuple[Delta, float]]] = {}
        apart: dict[str, list[Term]] = {}
        fixed = [(self.loaded[name], strength) for name, strength in self.fused.items()]
        free = [(self.loaded[n], s) for n, s in self.active.items() if n not in self.fused and self.enabled]
        for bound, strength in fixed:
            merge_into(merged, bound, strength)
        for bound, strength in self._of_run:
            _spread(bound, strength, wiring, merged, apart, prefer_merged=True)
        for bound, strength in free:
            _spread(bound, strength, wiring, merged, apart, prefer_merged=False)
        terms = wiring.forward.prepare(apart)
        wiring.fused.apply(merged)
        unseen = wiring.forward.put(terms)
        if any(key.partition(".")[0] in wiring.compiled for key in (*merged, *apart)):
            thaw(unseen)

    def _or_undo(self, undo: Callable[[], Any]) -> None:
        """Refreshes, and takes the last change back where that fails."""
        try:
            self.refresh()
        except BaseException:
            undo()
            raise

    def _release(self) -> None:
        if self._wiring is not None:
            self._wiring.fused.release()

    def _drop(self, name: str) -> None:
        for place in (self.loaded, self.active, self.fused):
            place.pop(name, None)

    def _known(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.loaded:
                todo = nearest(name, self.loaded) if self.loaded else "load it first"
                raise OptionError(f"no adapter is named {name!r}", todo=todo)


def plain(network: nn.Module) -> nn.Module:
    """A network without torch.compile's wrapper."""
    return getattr(network, "_orig_mod", network)


def wire(networks: Networks) -> Wiring:
    """The networks' parameters by patch key, and the layers they are of where terms can be added to their outputs."""
    parameters: dict[str, nn.Parameter] = {}
    layers: dict[str, nn.Module] = {}
    for name, network in networks.items():
        for path, layer in plain(network).named_modules():
            for inner, parameter in layer.named_parameters(recurse=False):
                key = f"{name}.{path}.{inner}" if path else f"{name}.{inner}"
                parameters[key] = parameter
                if hookable(layer) and not path.endswith("position_embedding"):
                    layers[key] = layer
    compiled = frozenset(name for name, network in networks.items() if plain(network) is not network)
    fused = Fused(parameters)
    return Wiring(fused, Forward(layers, fused.original, bool(compiled), late=not compiled), layers, compiled)


def merge_into(merged: dict[str, list[tuple[Delta, float]]], bound: Bound, strength: Strength) -> None:
    """Adds an adapter's changes, each with the strength it has at its place."""
    for key, deltas in bound.deltas.items():
        merged.setdefault(key, []).extend((delta, strength.of(key)) for delta in deltas)


def _spread(
    bound: Bound,
    strength: Strength,
    wiring: Wiring,
    merged: dict[str, list[tuple[Delta, float]]],
    apart: dict[str, list[Term]],
    prefer_merged: bool,
) -> None:
    """Each change where it belongs: apart where it moves, else as preferred and possible."""
    moving = strength.moving if strength.curves else None
    for key, deltas in bound.deltas.items():
        network, moves = key.partition(".")[0], strength.moves(key)
        if key in wiring.layers and (moves or not (prefer_merged or network in wiring.compiled)):
            terms = [Term(delta, strength.of(key), moving if moves else None) for delta in deltas]
            apart.setdefault(key, []).extend(terms)
        elif moves:
            raise OptionError(
                f"{key} cannot move over the run", bound.file.path, todo="give a fixed strength"
            )
        else:
            merged.setdefault(key, []).extend((delta, strength.of(key)) for delta in deltas)
