import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.units import (
    parse_bytes,
    parse_celsius,
    parse_millijoules,
    parse_milliseconds,
    parse_points,
    parse_seconds,
    parse_share,
)


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
        (parse_seconds, "1h", 3600.0),
        (parse_seconds, "250ms", 0.25),
        (parse_bytes, "12B", 12),
        (parse_bytes, "3kB", 3000),
        (parse_bytes, "3KB", 3000),
        (parse_bytes, "2KiB", 2048),
        (parse_bytes, "2GiB", 2 << 30),
        (parse_bytes, "400MB", 400_000_000),
        (parse_bytes, "0.4GB", 400_000_000),
        (parse_bytes, "1MiB", 1 << 20),
        (parse_millijoules, "50mJ", 50.0),
        (parse_millijoules, "0.05J", 50.0),
        (parse_millijoules, "500uJ", 0.5),
        (parse_celsius, "45C", 45.0),
        (parse_celsius, " 44.5 \N{DEGREE SIGN}C ", 44.5),
        (parse_celsius, "45", 45.0),
        (parse_share, "5%", 0.05),
        (parse_share, "250 %", 2.5),
        (parse_share, "0.05", 0.05),
        (parse_share, "0.99", 0.99),
        (parse_share, "0", 0.0),
        (parse_points, "0.5pp", 0.005),
        (parse_points, "100pp", 1.0),
        (parse_points, "0.005", 0.005),
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


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_celsius, text) for text in ("", "0", "150", "-5C", "hot", "45F", "45K", "nan", "1e999")),
        *((parse_share, text) for text in ("", "%", "5", "1.01", "-1%", "5%%", "5% more", "5pp", "nan", "nan%")),
        *((parse_points, text) for text in ("", "pp", "0.5%", "1.5", "101pp", "-1pp", "5pppp")),
    ],
)
def test_refuses_temperatures_and_shares_that_are_none(parse, text):
    with pytest.raises(EdgeError, match="is not a") as caught:
        parse(text)
    assert caught.value.hint.startswith("Give for example ")
