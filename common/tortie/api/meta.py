"""What every Kubernetes object carries, as the slim records that Tortie decodes from raw bytes with msgspec.

Fields that nobody reads are never decoded: a pod's record is a few hundred bytes, not kilobytes.
"""

from __future__ import annotations

from typing import Any, dataclass_transform

import msgspec


class RecordType(msgspec.StructMeta):
    """Makes every record keyword-only, which msgspec does not inherit."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> RecordType:
        return super().__new__(mcs, name, bases, namespace, **{"kw_only": True, **options})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Record(msgspec.Struct, metaclass=RecordType, rename="camel", omit_defaults=True, frozen=True):
    """Base of all decoded objects: immutable, camelCase on the wire, defaults left out."""


class Metadata(Record):
    """The part of `ObjectMeta` that Tortie reads. Times are RFC 3339 strings as the API server sent them."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """resourceVersion as the integer that may be compared within one kind (KEP-5504); 0 before the first write."""
        return int(self.resource_version or 0)

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` for a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Condition(Record):
    """`metav1.Condition`; `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class Object(Record, omit_defaults=False):
    """Base of all top-level kinds: `apiVersion` and `kind` are written although they are defaults.

    Its parts are Records, which leave their defaults out.
    """
