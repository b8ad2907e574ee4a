"""`veca-edge evaluate` from the command line: the table, the JSON, the bundle, and the exit codes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from veca_edge.demo import demo_evaluation


@pytest.fixture(scope="module")
def evaluated(bundle, tmp_path_factory):
    """A copy of the demo bundle that was evaluated on the demo's images."""
    from .conftest import run_command

    copy = tmp_path_factory.mktemp("evaluated") / "demo"
    shutil.copytree(bundle, copy)
    ended = run_command("evaluate", copy, "--data", demo_evaluation(), "--workers", 1, "--json")
    assert ended.code == 0, ended.err
    return copy, ended.json


def test_it_says_what_the_bundle_says_of_itself(evaluated):
    from veca_edge.bundle.store import open_bundle

    copy, found = evaluated
    assert (found["images"], found["failed"]) == (70, 0)
    for fidelity in open_bundle(copy).fidelity:
        metrics = found["variants"][fidelity.name]["metrics"]
        assert metrics["top1"]["value"] == pytest.approx(fidelity.reference.top1)
        assert metrics["top1"]["low"] < fidelity.reference.top1 < metrics["top1"]["high"]
        assert metrics["full_cosine_cls"]["value"] == pytest.approx(fidelity.elastic.cls.mean, abs=1e-9)
    assert len(found["variants"]["cores16_fp32_32x32"]["classes"]) == 10


def test_it_is_read_the_second_time(evaluated, veca_edge):
    copy, _ = evaluated
    again = veca_edge("evaluate", copy, "--data", demo_evaluation(), "--workers", 1)
    assert again.code == 0, again.err
    assert "70 images of evaluation" in again.out
    rows = [line.split()[0] for line in again.out.splitlines() if line.startswith("cores")]
    assert rows[:2] == ["cores8_fp32_32x32", "cores16_fp32_32x32"]
    assert "All of them were evaluated before, and read; --again evaluates them anew." in again.err
    assert " images in " not in again.out, "nothing was run"
    assert veca_edge("verify", copy).code == 0


def test_images_of_which_none_can_be_used_are_named_and_looked_at_again(bundle, tmp_path, veca_edge):
    (tmp_path / "cat").mkdir()
    image = tmp_path / "cat" / "a.png"
    intact = next((demo_evaluation() / "cat").iterdir()).read_bytes()
    words = ("evaluate", bundle, "--data", tmp_path, "--workers", 1)
    image.write_bytes(bytes(len(intact)))
    ended = veca_edge(*words)
    assert (ended.code, "None of 1 image of" in ended.err, "cat/a.png (not an image" in ended.err) == (2, True, True)
    image.write_bytes(intact)  # of the same size, so that the data set is the same one
    assert veca_edge(*words).code == 0


def test_recommend_and_report_take_it(evaluated, tmp_path, veca_edge):
    from measured import measure

    from veca_edge.bundle.store import open_bundle

    copy, found = evaluated
    measured = tmp_path / "measured"
    shutil.copytree(copy, measured, ignore=shutil.ignore_patterns("profiles"))
    manifest = measured / "manifest.json"
    opened = open_bundle(measured)
    # What the export said of itself is not what is shown.
    spoiled = manifest.read_text().replace(f'"top1": {opened.fidelity[0].reference.top1}', '"top1": 0.5')
    manifest.write_text(spoiled)
    assert open_bundle(measured).fidelity[0].reference.top1 == 0.5
    measure(opened)
    best = veca_edge("recommend", measured, "--by", "top1", "--json")
    assert best.code == 0, best.err
    assert best.json["best"]["top1"] == max(v["metrics"]["top1"]["value"] for v in found["variants"].values())
    assert "Top-1 is of the 70 images of evaluation." in best.json["notes"]
    pytest.importorskip("matplotlib")
    done = veca_edge("report", measured, "--output", tmp_path / "report.html")
    assert done.code == 0, done.err
    top1 = found["variants"]["cores16_fp32_32x32"]["metrics"]["top1"]
    for file in ("report.html", "report.md"):
        text = (tmp_path / file).read_text()
        assert f"{top1['value']:.4f} ({top1['low']:.4f} to {top1['high']:.4f})" in text
        assert "top-1 is lowest of" in text


def test_a_baseline_that_is_the_same_is_no_regression(evaluated, bundle, tmp_path, veca_edge):
    copy, _ = evaluated
    ended = veca_edge("evaluate", copy, "--data", demo_evaluation(), "--workers", 1, "--baseline", copy)
    assert ended.code == 0, ended.err
    assert "No metric is worse" in ended.out


def test_a_worse_release_is_exit_code_1(evaluated, tmp_path, veca_edge):
    """A release that was made of spoiled weights."""
    from veca_edge.bundle.store import open_bundle, write_manifest

    copy, _ = evaluated
    worse = tmp_path / "worse"
    shutil.copytree(copy, worse, ignore=shutil.ignore_patterns("evaluations"))
    weights = worse / "models" / "weights.bin"
    values = np.fromfile(weights, np.float32)
    values[::7] *= 0.5
    values.tofile(weights)
    write_manifest(open_bundle(worse))
    ended = veca_edge("evaluate", worse, "--data", demo_evaluation(), "--workers", 1, "--baseline", copy, "--json")
    assert ended.code == 1, ended.err
    assert {d["metric"] for d in ended.json["regressions"]} >= {"cosine_dense"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is nothing to evaluate on"),
        (("--data", "/nowhere"), "There is no data at /nowhere"),
        (("--data", demo_evaluation(), "--tolerance", "much"), "is not a difference of shares"),
        (("--data", demo_evaluation(), "--tolerance", "0.5pp"), "--tolerance is for a comparison(.|\n)*--baseline"),
        (("--data", demo_evaluation(), "--folder-classes", "odd"), "Unknown way to name classes 'odd'"),
        (("--data", demo_evaluation(), "--cluster", "local:2", "--workers", 2), "--workers is for this machine"),
        (("--data", demo_evaluation(), "--format", "engine"), "no format 'engine'|engine"),
    ],
)
def test_what_is_wrong_is_said(bundle, words, said, veca_edge):
    import re

    ended = veca_edge("evaluate", bundle, *words)
    assert ended.code == 2
    assert re.search(said, ended.err), ended.err
    assert "Traceback" not in ended.err


def test_depths_bear_the_names_of_the_tables_of_an_export(capsys):
    """A difference to the FP32 model, and an error to what is known, are called so by every command."""
    from veca_edge.actions.compare import FidelityChange
    from veca_edge.base.spec import ImageSize
    from veca_edge.bundle.types import Agreement, DepthAgreement, Fidelity
    from veca_edge.cli.console import Terminal
    from veca_edge.cli.export import fidelity_tables
    from veca_edge.evaluation.metrics import METRICS

    labels = {metric.name: metric.label for metric in METRICS}
    depth = DepthAgreement(0.01, 0.5, 1.0, 0.1)
    agreement = Agreement(4, None, None, None, None, depth=depth, depth_truth=replace(depth, mean_error=0.2))
    fidelity_tables(Terminal(), [Fidelity(8, "fp32", ImageSize(32, 32), agreement, agreement)])
    names, values = (line.split("  ") for line in capsys.readouterr().out.splitlines()[1:3])
    shown = dict(zip(filter(None, map(str.strip, names)), filter(None, map(str.strip, values)), strict=True))
    assert (shown[labels["depth_difference"]], shown[labels["depth_error"]]) == ("1.00%", "20.00%")
    change = FidelityChange("cores8_fp32_32x32", {"AbsRel": (0.2, 0.2), "depth error": (0.01, 0.02)})
    assert [name for name, *_ in change.rows] == [labels["depth_error"], labels["depth_difference"]]


def test_the_json_names_the_images_that_the_text_names_also_without_dense(bundle, capsys):
    from veca_edge.actions.evaluate import Evaluated
    from veca_edge.bundle.store import open_bundle
    from veca_edge.cli.console import Terminal
    from veca_edge.cli.evaluate import as_json, show
    from veca_edge.evaluation.statistics import Totals, VariantStatistics
    from veca_edge.evaluation.store import Evaluation, EvaluationFacts

    statistics = VariantStatistics()
    statistics.own.cls.add(np.array([0.25]), 0, "odd.png")
    facts = EvaluationFacts("made up", "folder", "0" * 64, 1, (), None, {}, "0" * 64, 100, 1, {})
    evaluation = Evaluation(facts, Totals(images=1, variants={"a": statistics}), "", 1.0, 1, "")
    found = Evaluated(open_bundle(bundle), evaluation, None, ())
    assert as_json(found)["variants"]["a"]["worst"] == [{"name": "odd.png", "cosine": 0.25}]
    show(Terminal(), found)
    assert "odd.png (0.2500)" in capsys.readouterr().out
