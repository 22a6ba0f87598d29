"""What all tests share: no test is timed, so none fails because the machine is busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("podling", deadline=None)
settings.load_profile("podling")
