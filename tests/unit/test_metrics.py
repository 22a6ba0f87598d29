"""Counters, gauges and histograms, as Prometheus' own parser reads them."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from podling import process_metrics
from podling.metrics import Registry, exponential, number, text


def parsed(*registries: Registry) -> dict[str, Any]:
    """{sample and labels: value}, and the help text and kind of each family."""
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(text(*registries)):
        found[family.name] = family.type, family.documentation
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_counters_and_gauges() -> None:
    registry = Registry()
    asked = registry.counter("asked_total", "How often.", ("who", "what"))
    asked.add("ann", 'a "quoted" \\ thing\n', by=2)
    cell = asked.of("bob", "")
    cell.value += 1
    assert asked.of("bob", "") is cell
    height = registry.gauge("height", "A \\ in the text")
    height.set(-1.5)
    found = parsed(registry)
    assert found["asked"] == ("counter", "How often.")
    assert found['asked_total{what=a "quoted" \\ thing\n,who=ann}'] == 2
    assert found["asked_total{what=,who=bob}"] == 1
    assert found["height"] == ("gauge", "A \\ in the text") and found["height{}"] == -1.5
    asked.remove("bob", "")
    assert "asked_total{what=,who=bob}" not in parsed(registry)


def test_large_numbers_keep_their_last_digit() -> None:
    registry = Registry()
    registry.counter("bytes_total", "Bytes.").add(by=123_456_789_012)
    assert "bytes_total 123456789012\n" in text(registry)
    assert [number(v) for v in (0.005, 1e21, 3.0, float("inf"))] == ["0.005", "1e+21", "3", "+Inf"]


def test_histograms_are_cumulative() -> None:
    registry = Registry()
    times = registry.histogram("seconds", "Seconds.", ("verb",), (0.1, 1, 10))
    for value in (0.05, 0.1, 0.5, 5, 50):
        times.observe(("GET",), value)
    found = parsed(registry)
    assert found["seconds"] == ("histogram", "Seconds.")
    buckets = [found[f"seconds_bucket{{le={le},verb=GET}}"] for le in ("0.1", "1", "10", "+Inf")]
    assert buckets == [2, 3, 4, 5]
    assert (found["seconds_count{verb=GET}"], found["seconds_sum{verb=GET}"]) == (5, 55.65)


def test_what_has_no_labels_is_there_from_the_start_and_what_has_some_is_not() -> None:
    registry = Registry()
    registry.counter("zero_total", "Nothing yet.")
    registry.histogram("none", "Nothing yet.", (), (1.0,))
    registry.counter("labelled_total", "Nothing at all.", ("a",))
    shown = text(registry)
    assert "zero_total 0\n" in shown and "none_count 0\n" in shown and "labelled" not in shown


def test_values_can_be_read_when_asked_for() -> None:
    registry, values = Registry(), {("a",): 1.0}
    registry.gauge("now", "Now.", ("x",), lambda: values)
    values["b",] = 2.0
    assert parsed(registry)["now{x=b}"] == 2.0


def test_a_name_is_shown_once() -> None:
    first, second = Registry(), Registry()
    first.counter("same_total", "The first.").add()
    second.counter("same_total", "The last.").add(by=5)
    assert parsed(first, second)["same_total{}"] == 5


def test_buckets_that_double() -> None:
    assert exponential(0.001, 2, 4) == (0.001, 0.002, 0.004, 0.008)


def test_what_the_system_knows_of_the_process() -> None:
    registry = Registry()
    process_metrics.register(registry)
    found = parsed(registry)
    assert 0 < found["process_cpu_seconds_total{}"] < 100_000
    assert 3 <= found["process_open_fds{}"] <= found["process_max_fds{}"]
    assert 10e6 < found["process_resident_memory_bytes{}"] < found["process_virtual_memory_bytes{}"]
    # It was started after this was written, and before it was run.
    assert 1.7e9 < found["process_start_time_seconds{}"] < 1e11
