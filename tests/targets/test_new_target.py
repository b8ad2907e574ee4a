"""A new target is one row: a toy that writes FP32 ONNX goes through everything without a change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import veca_edge
from veca_edge.base.checks import Check
from veca_edge.base.errors import EdgeError
from veca_edge.base.options import option
from veca_edge.demo import demo_evaluation
from veca_edge.profiles.options import ProfileOptions
from veca_edge.profiles.sweep import profile_bundle
from veca_edge.rules.finding import Finding
from veca_edge.targets.base import Format, Linter, Next, NoOptions, Target, Words
from veca_edge.targets.cpu import CPU, loading, open_onnx, open_together
from veca_edge.targets.table import TARGETS


@dataclass(frozen=True)
class ToyOptions:
    """What only the toy understands."""

    colour: str = option("red", "its colour.", metavar="NAME", shown="red")


def write(spec, variants, directory, metadata, progress):
    return [replace(a, target="toy", format="toyx") for a in CPU.write(spec, variants, directory, metadata, progress)]


def finish(written, golden_cosine):
    (written.directory / "toy.txt").write_text(f"{len(written.artifacts)} {min(golden_cosine.values()):.3f}\n")


def lint(path, options):
    return [] if path.suffix == ".onnx" else [Finding("suffix", str(path), "It is not ONNX.", "It is a toy.", "here")]


def doctor():
    yield Check("toy", "batteries", True, "full")


TOY = Target(
    name="toy",
    runtime="ONNX Runtime",
    summary="a toy",
    extra="export",
    precisions=("fp32",),
    formats=(Format("toyx", "ONNX Runtime", "onnxruntime", open_onnx, loading, open_together),),
    options=ToyOptions,
    profile_options=ProfileOptions,
    words=Words("the toy's clock", "the toy's memory"),
    write=write,
    measure=lambda asked, progress, on_log: profile_bundle(asked.bundle, asked.options, asked.artifacts, progress),
    doctor=doctor,
    next_steps=lambda bundle: Next(("profile", str(bundle.directory))),
    finish=finish,
    linter=Linter(NoOptions, lint, "an .onnx file"),
)


@pytest.fixture(scope="module")
def toy() -> Iterator[Target]:
    TARGETS["toy"] = TOY
    yield TOY
    del TARGETS["toy"]


@pytest.fixture(scope="module")
def bundle(toy, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("toy") / "bundle"
    request = veca_edge.ExportRequest(output, target="toy", core_counts=(8,), options=ToyOptions("blue"))
    assert veca_edge.export(request).fidelity[0].reference.lowest_mean > 0.99999
    return output


def test_export_writes_and_finishes(bundle):
    opened = veca_edge.open_bundle(bundle)
    assert [(a.target, a.format, a.precision) for a in opened.artifacts] == [("toy", "toyx", "fp32")]
    assert TOY.options_of(opened.spec) == ToyOptions("blue")
    assert (bundle / "toy.txt").read_text() == "1 1.000\n"
    assert "onnxruntime.InferenceSession" in (bundle / "README.md").read_text()


def test_verify_run_and_load(bundle):
    (check,) = veca_edge.verify(bundle)
    assert check.ok
    assert check.cosine > 0.99999
    image = next(demo_evaluation().rglob("*.jpg"))
    found = veca_edge.run(bundle, [image])
    with veca_edge.load(bundle) as model:
        output = model(veca_edge.prepare(image, model.image_size))
        assert np.allclose(output.cls[0], found.images[0].outputs["cls"])
    with pytest.raises(EdgeError, match="closed"):
        model(np.zeros((*model.image_size, 3), np.uint8))


def test_profile_report_and_recommend(bundle, tmp_path):
    quick = ProfileOptions(rounds=1, seconds=0.05)
    profiled = veca_edge.profile(veca_edge.ProfileRequest(bundle, options=quick))
    assert [m.target for m in profiled.profile.measurements] == ["toy"]
    assert veca_edge.recommend(bundle, veca_edge.Limits(p95_ms=1e6)).best.artifact.target == "toy"
    files = veca_edge.report([bundle], tmp_path / "r.html", veca_edge.ReportOptions(pictures=False))
    assert "The toy's clock" in Path(files.html).read_text().replace("&#39;", "'")


def test_lint_and_doctor(bundle):
    assert veca_edge.lint(bundle / "models" / "cores8_fp32_32x32.onnx", "toy") == []
    assert veca_edge.lint(bundle / "README.md", "toy")[0].rule == "suffix"
    assert ("toy", "batteries") in {(c.target, c.name) for c in veca_edge.doctor()}


def test_options_of_another_target_are_refused(toy, tmp_path):
    for kind, options in (("cpu", ToyOptions()), ("toy", veca_edge.TensorrtOptions())):
        with pytest.raises(EdgeError, match="takes options of the type"):
            veca_edge.export(veca_edge.ExportRequest(tmp_path / "b", target=kind, options=options))
    with pytest.raises(EdgeError, match="nothing to build there"):
        veca_edge.export(veca_edge.ExportRequest(tmp_path / "b", target="toy", device="local"))
