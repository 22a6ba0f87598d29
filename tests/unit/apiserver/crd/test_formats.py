"""String formats."""

from __future__ import annotations

import pytest

from podling.apiserver.crd import formats

GOOD = {
    "bsonobjectid": ["507f1f77bcf86cd799439011"],
    "uri": ["http://example.com/x?y=1", "/path", "mailto:a@b.c"],
    "email": ["a.b+c@example.com", "Name <a@example.com>"],
    "hostname": ["example.com", "a", "x-1.example"],
    "ipv4": ["10.0.0.1"],
    "ipv6": ["::1", "fe80::1"],
    "cidr": ["10.0.0.0/8", "fd00::/64", "10.0.0.1/24"],
    "mac": ["00:1a:2b:3c:4d:5e", "00-1A-2B-3C-4D-5E", "001a.2b3c.4d5e"],
    "uuid": ["123E4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"],
    "uuid3": ["6fa459ea-ee8a-3ca4-894e-db77e160355e"],
    "uuid4": ["16fd2706-8baf-433b-82eb-8c7fada847da"],
    "uuid5": ["886313e1-3b8a-5372-9b90-0c9aee199e5d"],
    "isbn": ["0321751043", "978-0321751041"],
    "isbn10": ["0321751043"],
    "isbn13": ["978-0321751041"],
    "creditcard": ["4111-1111-1111-1111"],
    "ssn": ["111-11-1111", "111 11 1111"],
    "hexcolor": ["#fff", "00FF00"],
    "rgbcolor": ["rgb(100,0,255)"],
    "byte": ["aGVsbG8="],
    "password": [""],
    "date": ["2024-02-29"],
    "date-time": ["2014-12-15T19:30:20.000Z", "2014-12-15T19:30:20+02:00"],
    "datetime": ["2014-12-15T19:30:20Z"],
    "duration": ["22ns", "1h30m", "3 days", "1.5s", "22 ns"],
    "k8s-short-name": ["a-1"],
    "k8s-long-name": ["a.b-c"],
}
BAD = {
    "bsonobjectid": ["507f"],
    "uri": ["not a uri", "example.com", ""],
    "email": ["nobody", "@x"],
    "hostname": ["", "-a.example", "a..b", "a_b!"],
    "ipv4": ["10.0.0", "::1", "256.1.1.1"],
    "ipv6": ["10.0.0.1", ":::"],
    "cidr": ["10.0.0.1", "10.0.0.0/40"],
    "mac": ["00:1a:2b:3c:4d"],
    "uuid": ["123e4567"],
    "uuid4": ["6fa459ea-ee8a-3ca4-894e-db77e160355e"],
    "isbn": ["0321751044"],
    "creditcard": ["4111-1111-1111-1112", "1234"],
    "ssn": ["11-111-1111"],
    "hexcolor": ["#ffff", "green"],
    "rgbcolor": ["rgb(300,0,0)"],
    "byte": ["***", "a"],
    "date": ["2023-02-29", "20240229", "2024-2-9"],
    "date-time": ["2014-12-15", "2014-13-15T19:30:20Z", "now"],
    "duration": ["soon", "1 fortnight", ""],
    "k8s-short-name": ["A", "a.b", "-a"],
    "k8s-long-name": ["A.b", "a..b"],
}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in GOOD.items() for t in texts])
def test_right(name: str, text: str) -> None:
    check = formats.check(name)
    assert check is not None and check(text)


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in BAD.items() for t in texts])
def test_wrong(name: str, text: str) -> None:
    check = formats.check(name)
    assert check is not None and not check(text)


@pytest.mark.parametrize(
    ("kind", "name", "known"),
    [
        ("string", "date-time", True), ("", "uuid", True), ("string", "int32", False), ("integer", "int32", True),
        ("integer", "uint8", False), ("number", "double", True), ("object", "uri", False),
        ("string", "quantity", False),
    ],
)  # fmt: skip
def test_a_format_means_something_for_its_type_only(kind: str, name: str, known: bool) -> None:
    assert formats.known(kind, name) is known
