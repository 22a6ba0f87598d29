"""Scalars of the API whose wire form is not their meaning.

They stay in their wire form inside objects: cheap to decode, and written back as they came. The modules that know their
meaning are `quantity`, `times` and `intstr`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

#: Whole numbers, as wide as Go's: what does not fit is refused.
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: A resource amount such as `500m` or `1Gi`; a bare number is accepted on the wire.
Quantity = str | int | float
#: RFC 3339 with seconds, UTC: `2026-01-02T03:04:05Z`.
Time = str
#: RFC 3339 with microseconds, UTC: `2026-01-02T03:04:05.678901Z`.
MicroTime = str
#: A port or a share: a number, or a name or percentage.
IntOrString = Int32 | str
#: Bytes in standard base64.
Base64 = str
#: Any JSON, kept as the bytes it came in: field sets in managedFields, which most readers never look into.
Json = msgspec.Raw
#: None of it.
NO_JSON = msgspec.Raw(b"")
