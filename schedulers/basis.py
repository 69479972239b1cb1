"""What a config stands for: the levels of training and the coordinates of the sample."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.errors import OptionError
from ..samplers.betas import BETA_SCHEDULES
from .configured import Configured, signed
from .frozen import FrozenDict
from .row import Row
from .space import PREDICTIONS, Space
from .spacing import SWITCHES
from .training import Training


class Basis(Configured):
    """A class of the table with its config checked."""

    row: ClassVar[Row]
    order: ClassVar[int] = 1

    def __init_subclass__(cls, row: Row | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if row is None:
            return
        cls.row, cls.defaults, cls.order = row, row.defaults, row.order
        cls.kin, cls.listed = row.kin, row.kin if row.listed is None else row.listed
        Configured.known[cls.__name__] = cls
        signed(cls, "__init__", [], row.defaults)
        signed(cls, "set_timesteps", ["num_inference_steps"], {"device": None, **row.arguments})
        signed(cls, "step", ["model_output", "timestep", "sample"], row.step)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check()
        self._seen: tuple[FrozenDict, FrozenDict] | None = None

    def _check(self) -> None:
        """Values of other classes become ours; OptionError for what no class has."""
        for name, table in self.row.renamed.items():
            if self.config[name] in table:
                self.register_to_config(**{name: table[self.config[name]]})
        choices = {"prediction_type": tuple(PREDICTIONS), "beta_schedule": BETA_SCHEDULES, **self.row.choices}
        for name in choices.keys() & self.config.keys():
            if self.config[name] not in choices[name]:
                what, expected = f"{name} {self.config[name]!r}", " or ".join(map(str, choices[name]))
                raise OptionError(what, type(self).__name__, expected)
        on = [switch for switch in SWITCHES[:3] if self.config.get(switch)]
        if len(on) > 1:
            raise OptionError(" and ".join(on), type(self).__name__, "at most one of them")

    @property
    def _own(self) -> FrozenDict:
        """The config without what is kept aside for other classes; but a model's range of sigma counts in each."""
        config = self._internal_dict
        if self._seen is None or self._seen[0] is not config:  # pipelines put another in its place
            own = {k: config[k] for k in (*self.row.defaults, "sigma_min", "sigma_max") if k in config}
            self._seen = config, FrozenDict(own)
        return self._seen[1]

    @cached_property
    def _training(self) -> Training | None:
        return Training(self._own, self.row.floor) if "beta_schedule" in self.row.defaults else None

    @cached_property
    def _space(self) -> Space:
        return self.row.space(self._own, self._training)

    @property
    def _trained(self) -> Training:
        if self._training is None:
            raise AttributeError(f"{type(self).__name__} has no table of betas")
        return self._training

    @property
    def betas(self) -> Tensor:
        return self._trained.betas

    @property
    def alphas(self) -> Tensor:
        return self._trained.alphas

    @property
    def alphas_cumprod(self) -> Tensor:
        return self._trained.alphas_cumprod

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """alphas_cumprod where a run ends: 1, or that of timestep 0 where set_alpha_to_one is false."""
        to_one = self._own.get("set_alpha_to_one", True)
        return torch.tensor(1.0) if to_one else self.alphas_cumprod[0]

    @cached_property
    def _training_table(self) -> Tensor:
        """(alpha, sigma) of every timestep of training, [n, 2]."""
        return torch.tensor([self._space.mixing(ratio) for ratio in self._trained.ratios])

    @property
    def compatibles(self) -> list[type[Any]]:
        """The classes that may take this one's place: `Class.from_config(scheduler.config)`."""
        return self._compatible()

    def __len__(self) -> int:
        return self.config.num_train_timesteps
