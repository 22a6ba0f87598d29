"""What table columns share: the usual columns, ages, lists of containers and images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from podling.api import core_v1, meta_v1, selectors, times
from podling.apiserver.strategy import Column

NAME = Column("Name", format="name", description="Name must be unique within a namespace.")
AGE = Column("Age", description="How long ago the object was created.")
CONTAINERS = Column("Containers", priority=1, description="Names of each container in the template.")
IMAGES = Column("Images", priority=1, description="Images referenced by each container in the template.")
SELECTOR = Column("Selector", priority=1, description="Which pods belong to it.")

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"


def number(name: str, *, wide: bool = False) -> Column:
    return Column(name, type="integer", priority=int(wide))


def text(name: str, *, wide: bool = False) -> Column:
    return Column(name, priority=int(wide))


def age(meta: meta_v1.ObjectMeta, now: datetime) -> str:
    return times.age(meta.creation_timestamp, now)


def name(meta: meta_v1.ObjectMeta) -> str:
    return meta.name or ""


def containers_and_images(template: core_v1.PodTemplateSpec | None) -> tuple[str, str]:
    """`a,b` and `nginx:1,busybox`."""
    found = template.spec.containers if template is not None and template.spec is not None else []
    return ",".join(c.name for c in found), ",".join(c.image or "" for c in found)


def labels(values: Mapping[str, str] | None, empty: str = NONE) -> str:
    """`a=b,c=d`, sorted by key."""
    return ",".join(f"{k}={v}" for k, v in sorted((values or {}).items())) or empty


def label_selector(selector: meta_v1.LabelSelector | None) -> str:
    return selectors.format_label_selector(selector)


def joined(values: Iterable[str], empty: str = NONE) -> str:
    return ",".join(values) or empty


def go_bool(value: bool | None) -> str:
    """As Go prints it."""
    return "true" if value else "false"
