"""Protobuf: what is written is read as it was, and is what Go writes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podling.apiserver.wire import fields, protobuf
from podling.machinery import schema
from tests.unit.apiserver.wire import objects


@pytest.mark.parametrize("type_", objects.kinds(), ids=fields.name_of)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_written_is_read(type_: type[Any], seed: int) -> None:
    obj = schema.convert(objects.make(type_, random.Random(seed)), type_)
    document = protobuf.encode(obj)
    assert schema.convert(protobuf.decode(document), type_) == obj
