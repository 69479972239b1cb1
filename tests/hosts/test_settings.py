"""Options survive as text; what is wrong in the text is told before anything runs."""

from __future__ import annotations

import pytest

from sigmagraft.core.errors import OptionError
from sigmagraft.hosts.settings import describe, format_options, parse_options
from sigmagraft.samplers import SAMPLERS

WITH_OPTIONS = [spec for spec in SAMPLERS if spec.options]


@pytest.mark.parametrize("spec", WITH_OPTIONS, ids=lambda spec: spec.name)
def test_text_and_back(spec) -> None:
    values = {option.name: option.default for option in spec.options}
    assert parse_options(format_options(values), spec.options, spec.name) == values
    assert format_options(values, spec.options) == ""
    told = describe(spec.options)
    assert len(told.splitlines()) == len(spec.options)


def test_only_what_is_written_is_given() -> None:
    declared = SAMPLERS["euler"].options
    name = declared[0].name
    assert parse_options("", declared, "euler") == {}
    assert parse_options(f" {name} = 0.25 ;", declared, "euler") == {name: 0.25}


@pytest.mark.parametrize(
    "text", ["s_noise", "=1", "s_noise=", "s_nois=1", "s_noise=x", "s_noise=1,s_noise=1"]
)
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="euler"):
        parse_options(text, SAMPLERS["euler"].options, "euler")
