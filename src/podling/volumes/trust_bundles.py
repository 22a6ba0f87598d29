"""ClusterTrustBundles as one file of certificates (KEP-3257)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from podling.api import certificates_v1, core_v1, selectors
from podling.volumes.base import Context, VolumeError

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


async def pem(context: Context, source: core_v1.ClusterTrustBundleProjection) -> str:
    """The certificates of the named bundle, or of all of a signer that match, each once. Raises VolumeError."""
    bundles = list(await context.lookup.cluster_trust_bundles())
    optional = bool(source.optional)
    if source.name:
        chosen = [b for b in bundles if b.metadata.name == source.name]
        if not chosen and not optional:
            raise VolumeError(
                f'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "{source.name}" not found'
            )
    else:
        chosen = list(_of_signer(bundles, source))
        if not chosen and not optional:
            raise VolumeError("combination of signerName and labelSelector matched zero ClusterTrustBundles")
    return normalize(bundle.spec.trust_bundle for bundle in chosen)


def _of_signer(
    bundles: Iterable[certificates_v1.ClusterTrustBundle], source: core_v1.ClusterTrustBundleProjection
) -> Iterable[certificates_v1.ClusterTrustBundle]:
    if source.label_selector is None:
        return
    selector = selectors.from_label_selector(source.label_selector)
    for bundle in bundles:
        if bundle.spec.signer_name == source.signer_name and selector.matches(bundle.metadata.labels or {}):
            yield bundle


def normalize(texts: Iterable[str]) -> str:
    """The certificates of several PEM texts, each once, in an order that depends on them alone."""
    found = {"".join(body.split()) for text in texts for body in _BLOCK.findall(text)}
    return "".join(_block(body) for body in sorted(found))


def _block(body: str) -> str:
    lines = base64.b64encode(base64.b64decode(body)).decode()
    wrapped = "\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    return f"-----BEGIN CERTIFICATE-----\n{wrapped}\n-----END CERTIFICATE-----\n"
