"""Volumes of a pod: exactly one source each, and what each source needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from podling.api import core_v1, names, quantity
from podling.apiserver.resources.podspec.env import (
    VOLUME_FIELDS,
    descending_path,
    field_selector,
    no_backsteps,
    relative_path,
    resource_selector,
)
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    label_selector,
    not_found,
    not_supported,
    one_of,
    required,
)

Volumes = Mapping[str, core_v1.Volume]

_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_ONE_TYPE = "may not specify more than 1 volume type"
_HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip


def volumes(
    items: Sequence[core_v1.Volume] | None, pod_name: str, path: Path
) -> tuple[dict[str, core_v1.Volume], Findings]:
    """The well-formed volumes by name, and what is wrong with the others. `pod_name` is "" in a template."""
    found: Findings = []
    known: dict[str, core_v1.Volume] = {}
    created = {f"{pod_name}-{v.name}" for v in items or () if v.ephemeral is not None} if pod_name else set()
    for index, volume in enumerate(items or ()):
        at = path.index(index)
        mine = _source(volume, pod_name, at)
        if not volume.name:
            mine.append(required(at.child("name")))
        else:
            mine += each(at.child("name"), volume.name, names.dns_label(volume.name))
        if volume.name in known:
            mine.append(duplicate(at.child("name"), volume.name))
        if not mine:
            known[volume.name] = volume
        found += mine
        claim = volume.persistent_volume_claim
        if claim is not None and claim.claim_name in created:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            found.append(invalid(at.child("persistentVolumeClaim", "claimName"), claim.claim_name, detail))
    return known, found


def _source(volume: core_v1.Volume, pod_name: str, path: Path) -> Findings:
    found: Findings = []
    first = True
    for attribute, name, rule in _SOURCES:
        source = getattr(volume, attribute)
        if source is None:
            continue
        if not first:
            found.append(forbidden(path.child(name), _ONE_TYPE))
            continue
        first = False
        found += rule(source, path.child(name))
        if attribute == "ephemeral" and pod_name and volume.name:
            claim = f"{pod_name}-{volume.name}"
            problems = [f'PVC name "{claim}": {p}' for p in names.dns_subdomain(claim)]
            found += each(path.child("name"), volume.name, problems)
    if first:
        found.append(required(path, "must specify a volume type"))
    return found


def _required(source: Any, path: Path, *fields: tuple[str, str]) -> Findings:
    """(attribute, wire name) of what must not be empty."""
    return [required(path.child(name)) for attribute, name in fields if not getattr(source, attribute)]


def _empty_dir(source: core_v1.EmptyDirVolumeSource, path: Path) -> Findings:
    if source.size_limit is not None and quantity.parse(source.size_limit).nano < 0:
        return [forbidden(path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity")]
    return []


def _host_path(source: core_v1.HostPathVolumeSource, path: Path) -> Findings:
    if not source.path:
        return [required(path.child("path"))]
    found = no_backsteps(source.path, path.child("path"))
    if source.type is not None and source.type not in _HOST_PATH_TYPES:
        found.append(not_supported(path.child("type"), source.type, _HOST_PATH_TYPES))
    return found


def _git_repo(source: core_v1.GitRepoVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("repository", "repository"))
    return found + descending_path(source.directory or "", path.child("directory"))


def _mode(value: int | None, path: Path) -> Findings:
    return [invalid(path, value, _MODE)] if value is not None and not 0 <= value <= 0o777 else []


def _key_to_path(items: Sequence[core_v1.KeyToPath] | None, path: Path) -> Findings:
    found: Findings = []
    for index, item in enumerate(items or ()):
        at = path.index(index)
        found += _required(item, at, ("key", "key"), ("path", "path"))
        found += relative_path(item.path, at.child("path"))
        found += _mode(item.mode, at.child("mode"))
    return found


def _secret(source: core_v1.SecretVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("secret_name", "secretName"))
    return (
        found + _mode(source.default_mode, path.child("defaultMode")) + _key_to_path(source.items, path.child("items"))
    )


def _config_map(source: core_v1.ConfigMapVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("name", "name"))
    return (
        found + _mode(source.default_mode, path.child("defaultMode")) + _key_to_path(source.items, path.child("items"))
    )


def _downward_file(file: core_v1.DownwardAPIVolumeFile, path: Path) -> Findings:
    found = _required(file, path, ("path", "path")) + relative_path(file.path, path.child("path"))
    if file.field_ref is not None:
        found += field_selector(file.field_ref, VOLUME_FIELDS, path.child("fieldRef"))
        if file.resource_field_ref is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            found.append(invalid(path, "resource", detail))
    elif file.resource_field_ref is not None:
        found += resource_selector(file.resource_field_ref, path.child("resourceFieldRef"), volume=True)
    else:
        found.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return found + _mode(file.mode, path.child("mode"))


def _downward(source: core_v1.DownwardAPIVolumeSource, path: Path) -> Findings:
    found = _mode(source.default_mode, path.child("defaultMode"))
    for file in source.items or ():
        found += _downward_file(file, path)
    return found


def _projected(source: core_v1.ProjectedVolumeSource, path: Path) -> Findings:
    found = _mode(source.default_mode, path.child("defaultMode"))
    seen: set[str] = set()

    def once(paths: Iterable[str], shown: str | None = None) -> None:
        for value in paths:
            if value in seen:
                found.append(invalid(path, value if shown is None else shown, "conflicting duplicate paths"))
            seen.add(value)

    for index, projection in enumerate(source.sources or ()):
        at = path.child("sources").index(index)
        count = 0
        for name, keys in (("secret", projection.secret), ("configMap", projection.config_map)):
            if keys is not None:
                count += 1
                found += _required(keys, at.child(name), ("name", "name"))
                found += _key_to_path(keys.items, at.child(name, "items"))
                once((item.path for item in keys.items or () if item.path), keys.name or "")
        if projection.downward_api is not None:
            count += 1
            for file in projection.downward_api.items or ():
                found += _downward_file(file, at.child("downwardAPI"))
                once([file.path] if file.path else [])
        if projection.service_account_token is not None:
            count += 1
            found += _token(projection.service_account_token, at.child("serviceAccountToken"), path)
        if projection.cluster_trust_bundle is not None:
            count += 1
            found += _trust_bundle(projection.cluster_trust_bundle, at.child("clusterTrustBundle"))
            once([projection.cluster_trust_bundle.path])
        count += projection.pod_certificate is not None
        if count > 1:
            found.append(forbidden(at, f"{_ONE_TYPE} per source"))
        elif count == 0:
            found.append(required(at, "must specify a volume type"))
    return found


def _token(token: core_v1.ServiceAccountTokenProjection, path: Path, projected: Path) -> Findings:
    found: Findings = []
    seconds = token.expiration_seconds if token.expiration_seconds is not None else 3600
    if seconds < 600:
        detail = "may not specify a duration less than 10 minutes"
        found.append(invalid(path.child("expirationSeconds"), seconds, detail))
    if seconds > 2**32:
        detail = "may not specify a duration larger than 2^32 seconds"
        found.append(invalid(path.child("expirationSeconds"), seconds, detail))
    # Upstream reports the path at the volume, not at the source.
    if not token.path:
        found.append(required(projected.child("path")))
    else:
        found += relative_path(token.path, projected.child("path"))
    return found


def _trust_bundle(source: core_v1.ClusterTrustBundleProjection, path: Path) -> Findings:
    found: Findings = []
    if source.name is not None and source.signer_name is not None:
        found.append(invalid(path, source, "only one of name and signerName may be used"))
    elif source.name is not None:
        if not source.name:
            found.append(required(path.child("name"), "must be a valid object name"))
        problems = names.dns_subdomain(source.name.rpartition(":")[2])
        found += each(path.child("name"), source.name, (f"not a valid clustertrustbundlename: {p}" for p in problems))
        if source.label_selector is not None:
            detail = "labelSelector must be unset if name is specified"
            found.append(invalid(path.child("labelSelector"), source.label_selector, detail))
    elif source.signer_name is not None:
        if not source.signer_name:
            found.append(required(path.child("signerName"), "must be a valid signer name"))
        found += label_selector(source.label_selector, path.child("labelSelector"))
    else:
        found.append(required(path, "either name or signerName must be specified"))
    return found + _required(source, path, ("path", "path")) + relative_path(source.path, path.child("path"))


def _ephemeral(source: core_v1.EphemeralVolumeSource, path: Path) -> Findings:
    if source.volume_claim_template is None:
        return [required(path.child("volumeClaimTemplate"))]
    return claim_spec(source.volume_claim_template.spec, path.child("volumeClaimTemplate", "spec"))


_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def claim_spec(spec: core_v1.PersistentVolumeClaimSpec, path: Path) -> Findings:
    """Of a PersistentVolumeClaim or a template of one."""
    found: Findings = []
    modes = spec.access_modes or []
    if not modes:
        found.append(required(path.child("accessModes"), "at least 1 access mode is required"))
    found += label_selector(spec.selector, path.child("selector"))
    for mode in modes:
        found += one_of(path.child("accessModes"), mode, _ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(m in _ACCESS_MODES and m != "ReadWriteOncePod" for m in modes):
        detail = "may not use ReadWriteOncePod with other access modes"
        found.append(forbidden(path.child("accessModes"), detail))
    at = path.child("resources").key("storage")
    storage = ((spec.resources.requests if spec.resources else None) or {}).get("storage")
    if storage is None:
        found.append(required(at))
    elif quantity.parse(storage).nano <= 0:
        found.append(invalid(at, str(quantity.parse(storage)), "must be greater than zero"))
    for name, class_name in (
        ("storageClassName", spec.storage_class_name),
        ("volumeAttributesClassName", spec.volume_attributes_class_name),
    ):
        if class_name:
            found += each(path.child(name), class_name, names.dns_subdomain(class_name))
    found += one_of(path.child("volumeMode"), spec.volume_mode, ("Block", "Filesystem"))
    return found + _data_sources(spec, path)


def _data_sources(spec: core_v1.PersistentVolumeClaimSpec, path: Path) -> Findings:
    found: Findings = []
    for field, source in (("dataSource", spec.data_source), ("dataSourceRef", spec.data_source_ref)):
        if source is None:
            continue
        at = path.child(field)
        found += _required(source, at, ("name", "name"), ("kind", "kind"))
        if not source.api_group and source.kind != "PersistentVolumeClaim":
            detail = 'must be "PersistentVolumeClaim" when referencing the default apiGroup'
            found.append(invalid(at, source.kind, detail))
        elif source.api_group:
            found += each(at.child("apiGroup"), source.api_group, names.dns_subdomain(source.api_group))
    return found


_ISCSI = {
    "iqn": re.compile(r".*iqn\.\d{4}-\d{2}\.([A-Za-z0-9-.]+)(:[^,;*&$|\s]+)"),
    "eui": re.compile(r"eui.[A-Za-z0-9]{16}"),
    "naa": re.compile(r"naa.[A-Za-z0-9]{32}"),
}


def _iscsi(source: core_v1.ISCSIVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("target_portal", "targetPortal"), ("iqn", "iqn"))
    for name, value in (("iqn", source.iqn), ("initiatorname", source.initiator_name or "")):
        if value and value[:3] not in _ISCSI:
            found.append(invalid(path.child(name), value, "must be valid format starting with iqn, eui, or naa"))
        elif value and not _ISCSI[value[:3]].fullmatch(value):
            found.append(invalid(path.child(name), value, "must be valid format"))
    if not 0 <= source.lun <= 255:
        found.append(invalid(path.child("lun"), source.lun, names.in_range(0, 255)))
    if (source.chap_auth_discovery or source.chap_auth_session) and source.secret_ref is None:
        found.append(required(path.child("secretRef")))
    return found


def _partition(source: Any, path: Path) -> Findings:
    if 0 <= (source.partition or 0) <= 255:
        return []
    return [invalid(path.child("partition"), source.partition, names.in_range(1, 255))]


def _nfs(source: core_v1.NFSVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("server", "server"), ("path", "path"))
    if not source.path.startswith("/"):
        found.append(invalid(path.child("path"), source.path, "must be an absolute path"))
    return found


def _fc(source: core_v1.FCVolumeSource, path: Path) -> Findings:
    found: Findings = []
    if not source.target_wwns and not source.wwids:
        found.append(required(path.child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
    if source.target_wwns and source.wwids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        found.append(invalid(path.child("targetWWNs"), source.target_wwns, detail))
    if source.target_wwns and source.lun is None:
        found.append(required(path.child("lun"), "lun is required if targetWWNs is specified"))
    elif source.target_wwns and source.lun is not None and not 0 <= source.lun <= 255:
        found.append(invalid(path.child("lun"), source.lun, names.in_range(0, 255)))
    return found


def _flex(source: core_v1.FlexVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("driver", "driver"))
    for key in source.options or ():
        if f".{key.split('/')[0].lower()}".endswith((".kubernetes.io", ".k8s.io")):
            detail = "kubernetes.io and k8s.io namespaces are reserved"
            found.append(invalid(path.child("options").key(key), key, detail))
    return found


def _flocker(source: core_v1.FlockerVolumeSource, path: Path) -> Findings:
    if not source.dataset_name and not source.dataset_uuid:
        return [required(path, "one of datasetName and datasetUUID is required")]
    if source.dataset_name and source.dataset_uuid:
        return [invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")]
    return []


def _cinder(source: core_v1.CinderVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("volume_id", "volumeID"))
    if source.secret_ref is not None and not source.secret_ref.name:
        found.append(required(path.child("secretRef", "name")))
    return found


def _csi(source: core_v1.CSIVolumeSource, path: Path) -> Findings:
    if not source.driver:
        return [required(path.child("driver"))]
    found: Findings = []
    if len(source.driver) > 63:
        found.append(invalid(path.child("driver"), source.driver, "must be no more than 63 characters"))
    found += each(path.child("driver"), source.driver, names.dns_subdomain(source.driver.lower()))
    if source.node_publish_secret_ref is not None and not source.node_publish_secret_ref.name:
        found.append(required(path.child("nodePublishSecretRef", "name")))
    return found


def _image(source: core_v1.ImageVolumeSource, path: Path) -> Findings:
    found = _required(source, path, ("reference", "reference"))
    policies = ("Always", "IfNotPresent", "Never")
    return found + one_of(path.child("pullPolicy"), source.pull_policy, policies, needed=True)


def _needs(*fields: tuple[str, str]) -> Callable[[Any, Path], Findings]:
    return lambda source, path: _required(source, path, *fields)


#: (attribute, wire name, rule), in the order in which upstream looks at them.
_SOURCES: tuple[tuple[str, str, Callable[[Any, Path], Findings]], ...] = (
    ("empty_dir", "emptyDir", _empty_dir),
    ("host_path", "hostPath", _host_path),
    ("git_repo", "gitRepo", _git_repo),
    (
        "gce_persistent_disk",
        "gcePersistentDisk",
        lambda s, p: _required(s, p, ("pd_name", "pdName")) + _partition(s, p),
    ),
    (
        "aws_elastic_block_store",
        "awsElasticBlockStore",
        lambda s, p: _required(s, p, ("volume_id", "volumeID")) + _partition(s, p),
    ),
    ("secret", "secret", _secret),
    ("nfs", "nfs", _nfs),
    ("iscsi", "iscsi", _iscsi),
    ("glusterfs", "glusterfs", _needs(("endpoints", "endpoints"), ("path", "path"))),
    ("flocker", "flocker", _flocker),
    ("persistent_volume_claim", "persistentVolumeClaim", _needs(("claim_name", "claimName"))),
    ("rbd", "rbd", _needs(("monitors", "monitors"), ("image", "image"))),
    ("cinder", "cinder", _cinder),
    ("cephfs", "cephfs", _needs(("monitors", "monitors"))),
    ("quobyte", "quobyte", _needs(("registry", "registry"), ("volume", "volume"))),
    ("downward_api", "downwardAPI", _downward),
    ("fc", "fc", _fc),
    ("flex_volume", "flexVolume", _flex),
    ("config_map", "configMap", _config_map),
    ("azure_file", "azureFile", _needs(("secret_name", "secretName"), ("share_name", "shareName"))),
    ("vsphere_volume", "vsphereVolume", _needs(("volume_path", "volumePath"))),
    ("photon_persistent_disk", "photonPersistentDisk", _needs(("pd_id", "pdID"))),
    ("portworx_volume", "portworxVolume", _needs(("volume_id", "volumeID"))),
    ("azure_disk", "azureDisk", _needs(("disk_name", "diskName"), ("disk_uri", "diskURI"))),
    ("storageos", "storageos", _needs(("volume_name", "volumeName"))),
    ("projected", "projected", _projected),
    ("scale_io", "scaleIO", _needs(("gateway", "gateway"), ("system", "system"), ("volume_name", "volumeName"))),
    ("csi", "csi", _csi),
    ("ephemeral", "ephemeral", _ephemeral),
    ("image", "image", _image),
)


# -- mounts -----------------------------------------------------------------------------------------------------------

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
AnyContainer = core_v1.Container | core_v1.EphemeralContainer


def mounts(container: AnyContainer, known: Volumes, path: Path) -> Findings:
    """volumeMounts. `path` is the list's."""
    found: Findings = []
    devices = {d.name: d.device_path for d in container.volume_devices or ()}
    points: set[str] = set()
    for index, mount in enumerate(container.volume_mounts or ()):
        at = path.index(index)
        found += _required(mount, at, ("name", "name"))
        if mount.name not in known:
            found.append(not_found(at.child("name"), mount.name))
        found += _required(mount, at, ("mount_path", "mountPath"))
        if mount.mount_path in points:
            found.append(invalid(at.child("mountPath"), mount.mount_path, "must be unique"))
        points.add(mount.mount_path)
        if mount.name in devices:
            found.append(invalid(at.child("name"), mount.name, "must not already exist in volumeDevices"))
        if mount.mount_path in devices.values():
            detail = "must not already exist as a path in volumeDevices"
            found.append(invalid(at.child("mountPath"), mount.mount_path, detail))
        if mount.sub_path or mount.sub_path_expr:
            found += _sub_path(mount, at, path)
        if mount.mount_propagation is not None:
            found += _propagation(mount.mount_propagation, container, path.child("mountPropagation"))
        if mount.recursive_read_only is not None:
            found += _recursive_read_only(mount, path.child("recursiveReadOnly"))
    return found


def _sub_path(mount: core_v1.VolumeMount, at: Path, mounts: Path) -> Findings:
    found: Findings = []
    # Upstream reports these paths at the list, not at the item.
    if mount.sub_path:
        found += descending_path(mount.sub_path, mounts.child("subPath"))
    if mount.sub_path_expr:
        if mount.sub_path:
            detail = "subPathExpr and subPath are mutually exclusive"
            found.append(invalid(at.child("subPathExpr"), mount.sub_path_expr, detail))
        found += descending_path(mount.sub_path_expr, mounts.child("subPathExpr"))
    return found


def _propagation(propagation: str, container: AnyContainer, path: Path) -> Findings:
    found = one_of(path, propagation, _PROPAGATIONS)
    privileged = container.security_context is not None and container.security_context.privileged
    if propagation == "Bidirectional" and not privileged:
        detail = "Bidirectional mount propagation is available only to privileged containers"
        found.append(forbidden(path, detail))
    return found


def _recursive_read_only(mount: core_v1.VolumeMount, path: Path) -> Findings:
    if mount.recursive_read_only == "Disabled":
        return []
    if mount.recursive_read_only not in ("Enabled", "IfPossible"):
        return [not_supported(path, mount.recursive_read_only, ("Disabled", "Enabled", "IfPossible"))]
    found: Findings = []
    if not mount.read_only:
        found.append(forbidden(path, "may only be specified when readOnly is true"))
    if mount.mount_propagation not in (None, "None"):
        found.append(forbidden(path, "may only be specified when mountPropagation is None or not specified"))
    return found


def devices(container: AnyContainer, known: Volumes, path: Path) -> Findings:
    """volumeDevices. `path` is the list's."""
    found: Findings = []
    mounted = {m.name: m.mount_path for m in container.volume_mounts or ()}
    seen_paths: set[str] = set()
    seen_names: set[str] = set()
    for index, device in enumerate(container.volume_devices or ()):
        at = path.index(index)
        name, device_path = device.name, device.device_path
        found += _required(device, at, ("name", "name"))
        if name in seen_names:
            found.append(invalid(at.child("name"), name, "must be unique"))
        volume = known.get(name)
        if volume is None:
            found.append(not_found(at.child("name"), name))
        elif volume.persistent_volume_claim is None and volume.ephemeral is None:
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            found.append(invalid(at.child("name"), name, detail))
        found += _required(device, at, ("device_path", "devicePath"))
        if device_path in seen_paths:
            found.append(invalid(at.child("devicePath"), device_path, "must be unique"))
        if device_path and no_backsteps(device_path, at):
            found.append(invalid(at.child("devicePath"), device_path, "can not contain backsteps ('..')"))
        if name in mounted:
            found.append(invalid(at.child("name"), name, "must not already exist in volumeMounts"))
        if device_path in mounted.values():
            detail = "must not already exist as a path in volumeMounts"
            found.append(invalid(at.child("devicePath"), device_path, detail))
        seen_names.add(name)
        seen_paths.add(device_path)
    return found
