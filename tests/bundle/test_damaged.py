"""A manifest that anybody may have written: it opens, or one error says what is wrong and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from damaged import mutants, refused

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import sha256_of
from veca_edge.bundle.store import open_bundle, verify_files

VERSION1 = Path(__file__).parents[1] / "data" / "version1"


def test_every_place_may_hold_anything(tmp_path):
    document = json.loads((VERSION1 / "jetson_manifest.json").read_text())

    def use(changed: Any) -> None:
        (tmp_path / "manifest.json").write_text(json.dumps(changed))
        bundle = open_bundle(tmp_path)
        # What opens is whole: it can be written, and everything that is derived from it can be had.
        json.dumps(bundle.to_json(), allow_nan=False)
        assert [a.spec for a in bundle.artifacts]
        assert bundle.precisions
        assert bundle.image_sizes
        assert all(f.reference.lowest_mean is not None for f in bundle.fidelity)

    every = [refused(use, mutant) for mutant in mutants(document)]
    assert len(every) > 1500
    assert 0.5 < sum(every) / len(every) < 0.95


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b'{"schema_version": 1, "spec": ' + b'{"a":' * 100_000,
        b"\xff\xfe",
        b'{"schema_version": 1, "schema_version": 1}',
        b'{"schema_version": NaN}',
        b"[]",
        b"null",
        b"1" * 5000,
        b'{"schema_version": true}',
        b'{"schema_version": 1}',
    ],
    ids=range(11),
)
def test_what_is_not_a_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    assert refused(lambda _: open_bundle(tmp_path), None)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d["fidelity"].__setitem__(0, {}), r"`core_count` - at `\$.fidelity\[0\]`"),
        (lambda d: d["fidelity"][0]["reference"]["cls"].update(mean="1"), r"\$.fidelity\[0\].reference.cls.mean"),
        (lambda d: d["details"].update(golden_cosine=5), r"\$.details.golden_cosine"),
        (lambda d: d["checkpoint"]["config"].update(hidden=0), "hidden 0"),
        (lambda d: d["checkpoint"].update(sha256="x"), r"\$.checkpoint.sha256"),
        (lambda d: d["artifacts"][0].update(surprise=1), r"\$.artifacts\[0\].surprise"),
        (lambda d: d.update(artifacts=[]), r"\$.artifacts"),
        (lambda d: d.update(directory="/"), r"\$.directory"),
        (lambda d: d.pop("files"), "no files"),
        *(
            (lambda d, path=path: d["artifacts"][0].update(path=path), r"\$.artifacts\[0\].path")
            for path in ("", "/etc/passwd", "..", "a/../../b", "a\n/../../b", "a\\b", "a\0b", "C:/b")
        ),
        (lambda d: d["files"].update({"../x": "0" * 64}), r"\$.files"),
        (lambda d: d.update(recipe="/etc/passwd"), r"\$.recipe"),
    ],
)
def test_the_error_names_the_place(tmp_path, change, where):
    document = json.loads((VERSION1 / "jetson_manifest.json").read_text())
    change(document)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EdgeError, match=where):
        open_bundle(tmp_path)


def test_nothing_outside_is_read_through_a_link(tmp_path):
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(b"secret")
    directory = tmp_path / "bundle"
    directory.mkdir()
    document = json.loads((VERSION1 / "manifest.json").read_text())
    (directory / "link.onnx").symlink_to(outside)
    document["artifacts"][0].update(path="link.onnx", sha256=sha256_of(outside))
    document["files"] = {}
    (directory / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EdgeError, match="leads outside"):
        verify_files(open_bundle(directory))
    # Neither is one inside of a package.
    (directory / "m.mlpackage").mkdir()
    (directory / "m.mlpackage" / "weights").symlink_to(outside)
    document["artifacts"][0].update(path="m.mlpackage", sha256=sha256_of(directory / "m.mlpackage"))
    (directory / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EdgeError, match="leads outside"):
        verify_files(open_bundle(directory))
