import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.version_numbers import major_minor, parse_version


def test_versions_of_packages():
    assert parse_version("10.3.0.30-1+cuda12.5").release == (10, 3, 0, 30)
    assert parse_version("10.13") > parse_version("10.3.0")
    assert major_minor("10.3.0.30") == "10.3"
    assert major_minor("11") == "11.0"


@pytest.mark.parametrize("text", ["", "latest", "10.3; reboot", "9" * 200 + ".x", "9" * 5000])
def test_what_is_not_a_version(text):
    with pytest.raises(EdgeError, match="is not a version") as error:
        parse_version(text)
    assert len(error.value.message) < 100
    assert error.value.hint
