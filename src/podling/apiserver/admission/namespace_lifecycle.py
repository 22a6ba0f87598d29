"""NamespaceLifecycle: nothing is made in a namespace that is not there or is going; some are not to be deleted."""

from __future__ import annotations

from podling.api import errors, meta_v1
from podling.apiserver.admission.base import CREATE, DELETE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
#: Created in a namespace only to be answered.
_REVIEWS = frozenset({"localsubjectaccessreviews.authorization.k8s.io"})


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"
    operations = frozenset((CREATE, UPDATE, DELETE))
    subresources = None
    validates = True

    def handles(self, attributes: Attributes) -> bool:
        if attributes.resource.qualified == "namespaces":
            return attributes.operation == DELETE
        return (
            attributes.resource.namespaced
            and attributes.operation in (CREATE, UPDATE)
            and attributes.resource.qualified not in _REVIEWS
        )

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation == DELETE:
            if attributes.name in IMMORTAL:
                raise errors.forbidden("namespaces", "", attributes.name, "this namespace may not be deleted")
            return
        name = attributes.namespace
        namespace = self.app.get("namespaces", "", name)
        if namespace is None:
            raise errors.not_found("namespaces", "", name)
        if attributes.operation == CREATE and namespace.metadata.deletion_timestamp:
            error = forbidden(
                attributes, f"unable to create new content in namespace {name} because it is being terminated"
            )
            cause = meta_v1.StatusCause(
                reason="NamespaceTerminating",
                message=f"namespace {name} is being terminated",
                field="metadata.namespace",
            )
            assert error.status.details is not None
            error.status.details.causes = [cause]
            raise error
