"""What the chosen sampler and schedule take, as a small table under the fields."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ...samplers.spec import Option
from ..calibrations import told_of
from ..offers import SamplerOffer, ScheduleOffer

_ROW = "<tr><td><code>{name}={default}</code></td><td>{expected}</td><td>{help}</td></tr>"


def described(offer: SamplerOffer | None, planned: ScheduleOffer | None) -> str:
    """The options of both; None is one of the host's, which takes them from the host."""
    parts = []
    if offer:
        spec = offer.spec
        kind = f"order {spec.order}" if spec.order else "no ODE solver"
        note = f"{kind}, {spec.evaluations} evaluation{'s' * (spec.evaluations > 1)} a step"
        parts.append(table(offer.label, told_of(spec) or note, spec.options))
    if planned:
        parts.append(table(planned.label, planned.spec.needs.text, planned.spec.options))
    return (
        "".join(parts)
        or "<p>Neither is of SigmaGraft: both take their options from the host's own fields.</p>"
    )


def table(title: str, note: str, options: Sequence[Option]) -> str:
    """A heading and a row for each option."""
    rows = "".join(
        _ROW.format(name=o.name, default=o.default, expected=escape(o.expected), help=escape(o.help))
        for o in options
    )
    return (
        f"<p><b>{escape(title)}</b>: {escape(note)}{'' if rows else '; no options'}</p><table>{rows}</table>"
    )
