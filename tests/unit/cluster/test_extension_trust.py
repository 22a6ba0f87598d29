from __future__ import annotations

import json
from pathlib import Path

from podling import clock
from podling.api import core_v1
from podling.api.struct import clone
from podling.apiserver.options import Options
from podling.cluster import extension_trust
from podling.cluster.extension_trust import NAME, NAMESPACE, combined, required
from podling.cluster.inprocess import Cluster


def pem(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


CA, PROXY = pem("ca").encode(), pem("proxy").encode()


def test_what_extension_servers_read() -> None:
    assert required(CA, PROXY, Options()) == {
        "client-ca-file": pem("ca"),
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-client-ca-file": pem("proxy"),
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-username-headers": '["X-Remote-User"]',
    }


def test_the_administrators_front_proxy_is_believed_too(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(pem("other"))
    options = Options(
        requestheader_client_ca_file=str(tmp_path / "ca.crt"),
        requestheader_allowed_names=["gateway"],
        requestheader_username_headers=["X-User", "X-Remote-User"],
    )
    found = required(CA, PROXY, options)
    assert found["requestheader-client-ca-file"] == pem("proxy") + pem("other")
    assert json.loads(found["requestheader-allowed-names"]) == ["gateway", "front-proxy-client"]
    assert json.loads(found["requestheader-username-headers"]) == ["X-Remote-User", "X-User"]
    anybody = required(CA, PROXY, Options(requestheader_client_ca_file=str(tmp_path / "ca.crt")))
    assert anybody["requestheader-allowed-names"] == "[]"


def test_what_stands_there_stays() -> None:
    wanted = required(CA, PROXY, Options())
    assert combined(wanted, wanted) == wanted
    there = {
        "client-ca-file": pem("old"),
        "requestheader-allowed-names": '["aggregator"]',
        "requestheader-group-headers": "nonsense",
        "somebodys": "own",
    }
    found = combined(there, wanted)
    assert found["client-ca-file"] == pem("old") + pem("ca")
    assert json.loads(found["requestheader-allowed-names"]) == ["aggregator", "front-proxy-client"]
    assert json.loads(found["requestheader-group-headers"]) == ["X-Remote-Group"]
    assert found["somebodys"] == "own"
    everybody = combined({**there, "requestheader-allowed-names": "[]"}, wanted)
    assert everybody["requestheader-allowed-names"] == "[]"


def test_it_is_made_and_mended() -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            client = cluster.client
            await extension_trust.publish(client, CA, PROXY, Options())
            found = clone(await client.get(core_v1.ConfigMap, NAME, NAMESPACE))
            assert pem("proxy") in (found.data or {})["requestheader-client-ca-file"]
            found.data = {"requestheader-client-ca-file": pem("theirs")}
            await client.update(found)
            await extension_trust.publish(client, CA, PROXY, Options())
            found = await client.get(core_v1.ConfigMap, NAME, NAMESPACE)
            assert (found.data or {})["requestheader-client-ca-file"] == pem("theirs") + pem("proxy")
            before = found.metadata.resource_version
            await extension_trust.publish(client, CA, PROXY, Options())
            assert (await client.get(core_v1.ConfigMap, NAME, NAMESPACE)).metadata.resource_version == before

    clock.run_virtual(main())
