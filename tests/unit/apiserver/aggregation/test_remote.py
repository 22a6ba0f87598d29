from __future__ import annotations

import base64
from pathlib import Path

import pytest

from podling.api import apiregistration_v1 as v1
from podling.api import core_v1, discovery_v1
from podling.api.request import User
from podling.apiserver.admission.webhooks_client import NoPlace
from podling.apiserver.aggregation import remote
from podling.apiserver.aggregation.remote import Connections, Place
from podling.cluster.pki import Pki
from tests.conformance.aggregated import endpoints, service

WANTED = v1.ServiceReference(name="sample-api", namespace="wardle", port=443)


def places(found: core_v1.Service | None, *slices: discovery_v1.EndpointSlice) -> list[Place]:
    return remote.places(found, slices, WANTED)


def test_places_are_the_ready_endpoints_of_the_port() -> None:
    ready, unready = endpoints(7443), endpoints(7444, ready=False)
    assert places(service(), ready, unready, endpoints(80, port_name="http")) == [Place("10.9.8.7", 7443)]
    elsewhere = service(type="ExternalName", external_name="api.example.com", ports=None)
    assert places(elsewhere) == [Place("api.example.com", 443)]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, 'service "sample-api" not found'),
        (service(ports=[core_v1.ServicePort(port=80)]), 'no service port 443 found for service "sample-api"'),
        (service(), 'no endpoints available for service "sample-api"'),
    ],
)
def test_no_place(found: core_v1.Service | None, why: str) -> None:
    with pytest.raises(NoPlace) as error:
        places(found)
    assert str(error.value) == why


def test_who_asks_is_said_in_headers() -> None:
    user = User("jane", ("devs", "ops"), "u-1", {"acme.com/project": ("one", "two"), "50%": ("x",)})
    assert remote.identity(user) == [
        ("X-Remote-User", "jane"),
        ("X-Remote-Uid", "u-1"),
        ("X-Remote-Group", "devs"),
        ("X-Remote-Group", "ops"),
        ("X-Remote-Extra-acme.com%2Fproject", "one"),
        ("X-Remote-Extra-acme.com%2Fproject", "two"),
        ("X-Remote-Extra-50%25", "x"),
    ]
    assert all(remote.is_identity(name) for name, _ in remote.identity(user))
    assert not remote.is_identity("X-Remote-Address")


def test_addresses() -> None:
    assert Place("10.0.0.1", 443).authority == "10.0.0.1:443"
    assert Place("fd00::1", 443).authority == "[fd00::1]:443"


def test_tls(tmp_path: Path) -> None:
    import ssl

    pki = Pki(tmp_path)
    pair = pki.client("front-proxy-client", "front-proxy-client", authority=pki.front_proxy_ca)
    connections = Connections(lambda: (str(pair.certificate_path), str(pair.key_path)))
    bundle = base64.b64encode(pki.ca.certificate).decode()
    verified = connections.context(v1.APIServiceSpec(ca_bundle=bundle))
    assert verified.check_hostname and not verified.hostname_checks_common_name
    assert len(verified.get_ca_certs()) == 1
    insecure = connections.context(v1.APIServiceSpec(insecure_skip_tls_verify=True))
    assert insecure.verify_mode == ssl.CERT_NONE
    for wrong in ("bm8=", base64.b64encode(b"-----BEGIN CERTIFICATE-----\nx\n").decode()):
        with pytest.raises(ValueError, match="unable to load root certificates: unable to parse bytes as PEM block"):
            connections.context(v1.APIServiceSpec(ca_bundle=wrong))
