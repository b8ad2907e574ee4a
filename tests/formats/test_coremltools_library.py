"""coremltools: whole and its messages alone, and installations that do not work."""

import subprocess
import sys

import pytest

from veca_edge.base.errors import EdgeError, MissingDependency
from veca_edge.formats import coremltools_library
from veca_edge.formats.coremltools_library import coremltools_for, messages_for


@pytest.fixture(autouse=True)
def anew():
    """Messages that an earlier test imported do not count."""
    messages_for.cache_clear()
    yield
    messages_for.cache_clear()


@pytest.mark.parametrize("needs", [coremltools_for, messages_for])
def test_missing_coremltools_names_the_extra(monkeypatch, needs):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependency, match=r"(?s)^A test needs .*veca-edge\[apple\]"):
        needs("A test")


@pytest.mark.parametrize("version", ["8.3.0", "10.0"])
@pytest.mark.parametrize("needs", [coremltools_for, messages_for])
def test_versions_that_were_not_checked_are_refused(monkeypatch, needs, version):
    monkeypatch.setattr(coremltools_library, "version", lambda name: version)
    with pytest.raises(EdgeError, match=f"coremltools {version}"):
        needs("A test")


def test_an_installation_without_its_messages(monkeypatch, tmp_path):
    (tmp_path / "coremltools").mkdir()
    (tmp_path / "coremltools/__init__.py").touch()
    monkeypatch.delitem(sys.modules, "coremltools", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EdgeError, match=r"(?s)can't be imported.*force-reinstall"):
        messages_for("A test")


def test_reading_imports_the_messages_alone(apple_packages):
    directory, artifacts, _ = apple_packages
    code = """
import sys
from veca_edge.formats.mlpackage import read_mlpackage, read_specification
assert read_mlpackage(sys.argv[1]).functions
assert "coremltools" not in sys.modules and "torch" not in sys.modules
sys.modules |= dict.fromkeys(("torch", "sklearn", "tensorflow"))  # not for the converters, which takes seconds
import coremltools.proto.Model_pb2 as whole
assert type(read_specification(sys.argv[1])) is whole.Model
"""
    command = [sys.executable, "-c", code, str(directory / artifacts["int8"][0].path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
