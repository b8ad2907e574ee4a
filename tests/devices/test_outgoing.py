"""Nothing but regular files of a bundle goes to a board."""

import os

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices.outgoing import bundle_file


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "bundle"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "a model.onnx").write_text("model")
    (folder / "models" / "link").symlink_to(tmp_path / "secret")
    (folder / "models" / "inner link").symlink_to("a model.onnx")
    (folder / "outside").symlink_to(tmp_path)
    os.mkfifo(folder / "models" / "fifo")
    return folder


def test_a_file_of_the_bundle(bundle):
    assert bundle_file(bundle, "models/a model.onnx").read_text() == "model"
    link = bundle.with_name("link to bundle")
    link.symlink_to(bundle)
    assert bundle_file(link, "models/a model.onnx").read_text() == "model"


@pytest.mark.parametrize(
    "name",
    [
        "models/link",
        "models/inner link",
        "outside/secret",
        "models/fifo",
        "models",
        "models/../../secret",
        "../secret",
        "/etc/passwd",
        "models//a model.onnx",
        "./models/a model.onnx",
        "models\\..\\secret",
        "models/missing",
        "models/a model.onnx/x",
        "models/a\0b",
        "m" * 5000,
        "",
        None,
        5,
        ["models/link"],
    ],
)
def test_everything_else_is_refused(bundle, name):
    with pytest.raises(EdgeError) as error:
        bundle_file(bundle, name)
    assert error.value.hint
