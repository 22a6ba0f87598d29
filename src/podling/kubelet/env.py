"""The environment of a container: env, envFrom, $(VAR) expansion and the variables that tell of services."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from podling.api import core_v1, errors
from podling.api.errors import StatusError
from podling.client.base import Client
from podling.errors import PodlingError
from podling.kubelet.pods import AnyContainer, namespace


class ConfigError(PodlingError):
    """The container's configuration cannot be made: CreateContainerConfigError, with this message."""


T = TypeVar("T")

#: The service that pods find the API server by; they see it from every namespace.
_MASTER_NAMESPACE, _MASTER_SERVICE = "default", "kubernetes"


def expand(text: str, lookup: Callable[[str], str]) -> str:
    """`$(NAME)` replaced by `lookup(NAME)`; `$$` is a dollar sign (k8s.io/kubernetes/third_party/forked/golang)."""
    parts: list[str] = []
    at = 0
    while True:
        dollar = text.find("$", at)
        if dollar < 0 or dollar + 1 == len(text):
            parts.append(text[at:])
            return "".join(parts)
        parts.append(text[at:dollar])
        following = text[dollar + 1]
        if following == "$":
            parts.append("$")
            at = dollar + 2
        elif following == "(" and (end := text.find(")", dollar + 2)) >= 0:
            parts.append(lookup(text[dollar + 2 : end]))
            at = end + 1
        else:
            parts.append("$" + following)
            at = dollar + 2


def mapping(*sources: Mapping[str, str]) -> Callable[[str], str]:
    """A lookup for `expand`: the first source that knows the name; what nobody knows stays as it stands."""

    def lookup(name: str) -> str:
        for source in sources:
            if name in source:
                return source[name]
        return f"$({name})"

    return lookup


def service_variables(services: Iterable[core_v1.Service], pod_namespace: str, links: bool) -> dict[str, str]:
    """FOO_SERVICE_HOST and the like, for the services of the pod's namespace (if it wants links) and the API server."""
    chosen: dict[str, core_v1.Service] = {}
    for service in services:
        if not service.spec or service.spec.cluster_ip in (None, "", "None"):
            continue
        name, home = service.metadata.name or "", service.metadata.namespace
        if home == _MASTER_NAMESPACE and name == _MASTER_SERVICE:
            chosen.setdefault(name, service)
        elif links and home == pod_namespace:
            chosen[name] = service
    variables: dict[str, str] = {}
    for name in sorted(chosen):
        _service_variables(name, chosen[name], variables)
    return variables


def _service_variables(name: str, service: core_v1.Service, variables: dict[str, str]) -> None:
    spec = service.spec
    assert spec is not None
    ports = spec.ports or []
    if not ports:
        return
    prefix, ip = _variable_name(name), spec.cluster_ip or ""
    variables[f"{prefix}_SERVICE_HOST"] = ip
    variables[f"{prefix}_SERVICE_PORT"] = str(ports[0].port)
    for port in ports:
        if port.name:
            variables[f"{prefix}_SERVICE_PORT_{_variable_name(port.name)}"] = str(port.port)
    host = f"[{ip}]" if ":" in ip else ip
    for index, port in enumerate(ports):
        protocol = port.protocol or "TCP"
        url = f"{protocol.lower()}://{host}:{port.port}"
        if index == 0:
            variables[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        variables[link] = url
        variables[f"{link}_PROTO"] = protocol.lower()
        variables[f"{link}_PORT"] = str(port.port)
        variables[f"{link}_ADDR"] = ip


def _variable_name(name: str) -> str:
    return name.upper().replace("-", "_")


class Sources(msgspec.Struct):
    """What a container's environment refers to: the objects by name, or the error of asking for them."""

    config_maps: dict[str, core_v1.ConfigMap | StatusError] = {}
    secrets: dict[str, core_v1.Secret | StatusError] = {}


async def fetch_sources(client: Client, pod: core_v1.Pod, containers: Iterable[AnyContainer]) -> Sources:
    """Read each ConfigMap and Secret that the containers' environments name, once."""
    sources = Sources()
    for container in containers:
        maps, secrets = _references(container)
        for name in maps - sources.config_maps.keys():
            sources.config_maps[name] = await _get(client, core_v1.ConfigMap, name, namespace(pod))
        for name in secrets - sources.secrets.keys():
            sources.secrets[name] = await _get(client, core_v1.Secret, name, namespace(pod))
    return sources


async def _get(client: Client, kind: type[T], name: str, home: str) -> T | StatusError:
    try:
        return await client.get(kind, name, home)
    except StatusError as error:
        # Named as the node agent of upstream names them: `configmap "x" not found`.
        return errors.not_found(kind.__name__.lower(), "", name) if errors.is_not_found(error) else error


def _references(container: AnyContainer) -> tuple[set[str], set[str]]:
    maps, secrets = set(), set()
    for source in container.env_from or ():
        if source.config_map_ref is not None:
            maps.add(source.config_map_ref.name or "")
        elif source.secret_ref is not None:
            secrets.add(source.secret_ref.name or "")
    for variable in container.env or ():
        given = None if variable.value else variable.value_from
        if given is not None and given.config_map_key_ref is not None:
            maps.add(given.config_map_key_ref.name or "")
        elif given is not None and given.secret_key_ref is not None:
            secrets.add(given.secret_key_ref.name or "")
    return maps, secrets


class Context(msgspec.Struct):
    """What an environment is made from. `ips` are the pod's, `host_ips` the node's; `volumes` host paths by name;
    `allocatable` the node's, for resource fields without a limit."""

    sources: Sources
    services: Sequence[core_v1.Service] = ()
    node_name: str = ""
    ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    volumes: Mapping[str, str] = {}
    allocatable: Mapping[str, str] = {}


def environment(pod: core_v1.Pod, container: AnyContainer, context: Context) -> dict[str, str]:
    """The variables by name, in the order of their declaration. Raises ConfigError."""
    links = pod.spec.enable_service_links is not False
    services = service_variables(context.services, namespace(pod), links)
    result: dict[str, str] = {}
    for source in container.env_from or ():
        result.update(_all_of(source, pod, context))
    lookup = mapping(result, services)
    for variable in container.env or ():
        if variable.value:
            result[variable.name] = expand(variable.value, lookup)
        elif variable.value_from is None:
            result[variable.name] = ""
        else:
            value = _value_from(variable.value_from, pod, container, context)
            if value is not None:
                result[variable.name] = value
    for name, value in services.items():
        result.setdefault(name, value)
    return result


def _all_of(source: core_v1.EnvFromSource, pod: core_v1.Pod, context: Context) -> dict[str, str]:
    prefix = source.prefix or ""
    if (config_map := source.config_map_ref) is not None:
        data = _data(context.sources.config_maps, config_map.name, config_map.optional)
    elif (secret := source.secret_ref) is not None:
        data = _data(context.sources.secrets, secret.name, secret.optional)
    else:
        data = {}
    return {prefix + key: value for key, value in sorted((data or {}).items())}


def _data(
    objects: Mapping[str, core_v1.ConfigMap | StatusError] | Mapping[str, core_v1.Secret | StatusError],
    name: str | None,
    optional: bool | None,
) -> dict[str, str] | None:
    """The object's data as text; None if it is not there and need not be."""
    found = objects.get(name or "")
    if isinstance(found, StatusError):
        if optional and errors.is_not_found(found):
            return None
        raise ConfigError(str(found))
    if isinstance(found, core_v1.Secret):
        return {k: base64.b64decode(v).decode("utf-8", "surrogateescape") for k, v in (found.data or {}).items()}
    return dict(found.data or {}) if found is not None else {}


def _value_from(
    source: core_v1.EnvVarSource, pod: core_v1.Pod, container: AnyContainer, context: Context
) -> str | None:
    """The value; None if the variable is left out."""
    if source.field_ref is not None or source.resource_field_ref is not None:
        try:
            return _field_value(source, pod, container, context)
        except (PodlingError, ValueError) as error:
            raise ConfigError(str(error)) from None
    if (config_map := source.config_map_key_ref) is not None:
        data = _data(context.sources.config_maps, config_map.name, config_map.optional)
        return _key(data, config_map, "ConfigMap", namespace(pod))
    if (secret := source.secret_key_ref) is not None:
        data = _data(context.sources.secrets, secret.name, secret.optional)
        return _key(data, secret, "Secret", namespace(pod))
    if source.file_key_ref is not None:
        return _file_value(source.file_key_ref, context)
    return ""


def _key(
    data: dict[str, str] | None,
    selector: core_v1.ConfigMapKeySelector | core_v1.SecretKeySelector,
    kind: str,
    home: str,
) -> str | None:
    if data is None:
        return None
    if selector.key in data:
        return data[selector.key]
    if selector.optional:
        return None
    raise ConfigError(f"couldn't find key {selector.key} in {kind} {home}/{selector.name}")


def _field_value(source: core_v1.EnvVarSource, pod: core_v1.Pod, container: AnyContainer, context: Context) -> str:
    from podling.volumes import field_refs

    if source.field_ref is not None:
        path = source.field_ref.field_path
        node_values = {
            "spec.nodeName": context.node_name,
            "status.hostIP": context.host_ips[0] if context.host_ips else "",
            "status.hostIPs": ",".join(context.host_ips),
            "status.podIP": context.ips[0] if context.ips else "",
            "status.podIPs": ",".join(context.ips),
        }
        return node_values[path] if path in node_values else field_refs.field_value(pod, path)
    assert source.resource_field_ref is not None
    return field_refs.resource_value(
        pod, source.resource_field_ref, container_name=container.name, allocatable=context.allocatable
    )


def _file_value(reference: core_v1.FileKeySelector, context: Context) -> str | None:
    """A variable out of a file that an init container left in a volume (KEP-3721)."""
    from podling.volumes import subpath

    root = context.volumes.get(reference.volume_name)
    if root is None:
        raise ConfigError(f'cannot find the volume "{reference.volume_name}" referenced by FileKeyRef')
    path = subpath.secure_join(root, reference.path)
    try:
        with open(path, encoding="utf-8") as file:
            value = parse_env_file(file.read()).get(reference.key, "")
    except OSError:
        if reference.optional:
            return None
        raise ConfigError("couldn't parse env file") from None
    if value:
        return value
    if reference.optional:
        return None
    raise ConfigError(f'environment variable key "{reference.key}" not found in file "{path}"')


def parse_env_file(text: str) -> dict[str, str]:
    """`NAME=value` lines; blank lines and those that begin with # are skipped, quotes around a value are taken off."""
    result = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        result[name.strip()] = value
    return result
