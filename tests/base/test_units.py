import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.units import parse_bytes, parse_millijoules, parse_milliseconds, parse_seconds


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_milliseconds, "20ms", 20.0),
        (parse_milliseconds, "0.02s", 20.0),
        (parse_milliseconds, " 800 us ", 0.8),
        (parse_milliseconds, ".5ms", 0.5),
        (parse_milliseconds, "2e1ms", 20.0),
        (parse_seconds, "5m", 300.0),
        (parse_seconds, "30s", 30.0),
        (parse_bytes, "400MB", 400_000_000),
        (parse_bytes, "0.4GB", 400_000_000),
        (parse_bytes, "1MiB", 1 << 20),
        (parse_millijoules, "50mJ", 50.0),
        (parse_millijoules, "0.05J", 50.0),
    ],
)
def test_reads_a_number_and_a_unit(parse, text, value):
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_milliseconds, "20", "no unit"),
        (parse_milliseconds, "20 minutes", "'minutes'"),
        (parse_milliseconds, "20m", "'m'"),
        (parse_bytes, "400Mb", "'Mb'"),
        (parse_millijoules, "50MJ", "'MJ'"),
        (parse_milliseconds, "", "not a latency"),
        (parse_milliseconds, "fast", "not a latency"),
        (parse_milliseconds, "-3ms", "not a latency"),
        (parse_milliseconds, "0ms", "anything could meet"),
        (parse_milliseconds, "1e999s", "anything could meet"),
        (parse_bytes, "nanMB", "not an amount"),
    ],
)
def test_refuses_the_rest_and_lists_the_units(parse, text, said):
    with pytest.raises(EdgeError, match=said) as caught:
        parse(text)
    assert any(unit in caught.value.hint for unit in ("ms", "MB", "mJ"))
