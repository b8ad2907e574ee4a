"""A fitted head on its whole way: exported, judged in its task's metric, gated, run and verified."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labelled_data import write_labelled
from PIL import Image

from veca_edge.actions.evaluate import evaluate
from veca_edge.actions.evaluate_request import EvaluateRequest
from veca_edge.actions.export import export, run_file
from veca_edge.actions.fit import fit
from veca_edge.actions.fit_request import FitRequest
from veca_edge.actions.request import CheckpointSource, ExportRequest, ImageSource
from veca_edge.actions.resolve import checkpoint_of, spec_of
from veca_edge.actions.run import run
from veca_edge.actions.verify import verify
from veca_edge.base.errors import EdgeError, GateError
from veca_edge.base.tasks import HeadFile, Task


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Data by task, and the heads fitted to it."""
    directory = tmp_path_factory.mktemp("tasks")
    data = {task: write_labelled(directory / task, task) for task in (Task.SEGMENT, Task.DEPTH)}
    (data[Task.SEGMENT] / "labels.txt").write_text("dark\nbright\n")
    heads = []
    for task, folder in data.items():
        request = FitRequest(task=task, data=folder, output=directory / f"{task}.safetensors", core_counts=(8, 64))
        heads.append(fit(replace(request, steps=200 if task == Task.SEGMENT else 500)).path)
    return data, heads


def request_for(tmp_path, fitted, task=Task.SEGMENT, **fields) -> ExportRequest:
    data, heads = fitted
    options = {"core_counts": (8, 64), "outputs": ("segmentation", "depth"), "measure": False, **fields}
    images = ImageSource(calibration=data[task], evaluation=data[task], count=12)
    return ExportRequest(tmp_path / "bundle", CheckpointSource(head=heads), images, **options)


def test_masks_and_depth_of_one_backbone(tmp_path, fitted):
    result = export(request_for(tmp_path, fitted))
    bundle = result.bundle
    assert bundle.spec.min_agreement == 0.98
    assert bundle.spec.max_depth_error == 0.02
    assert [h.task for h in bundle.heads] == [Task.SEGMENT, Task.DEPTH]
    assert bundle.heads[0].labels == ("dark", "bright")
    assert len(bundle.heads[0].palette) == 2
    assert bundle.heads[1].depth_range == (1.0, 4.0)
    assert "the class of every square of 4 pixels" in (bundle.directory / "README.md").read_text()
    for fidelity in result.fidelity:
        agreement = fidelity.reference
        assert agreement.cls is agreement.dense is None, "they are no outputs, and cost nothing"
        assert agreement.segmentation.pixels >= 0.98
        assert agreement.depth.mean_error <= 0.02
        assert agreement.segmentation_truth.miou > 0.9
        assert fidelity.reference_segmentation.miou > 0.9
        assert agreement.depth_truth is None, "the images come with masks alone"
    assert all(check.ok and check.cosine is not None for check in verify(bundle.directory))
    image = next((fitted[0][Task.SEGMENT] / "images").iterdir())
    outputs = run(bundle.directory, [image], core_count=8).images[0].outputs
    assert outputs["segmentation"].shape == outputs["depth"].shape == (8, 8)
    assert set(np.unique(outputs["segmentation"])) <= {0, 1}


def test_scores_of_classes_and_attention_alone_are_judged_too(tmp_path, fitted):
    """The most likely classes of patches by --min-agreement, and where cores look by --min-cosine."""
    asked = request_for(tmp_path, fitted, outputs=("segmentation_logits", "attention"))
    result = export(asked)
    assert result.bundle.spec.min_agreement == 0.98
    for fidelity in result.fidelity:
        agreement = fidelity.reference
        assert agreement.cls is agreement.dense is None
        assert 0.98 <= agreement.segmentation.pixels <= 1
        assert 0.99 < agreement.attention.mean < 1
        assert agreement.segmentation_truth is None, "masks are of maps"
    request = EvaluateRequest(bundle=result.bundle.directory, data=str(fitted[0][Task.SEGMENT]), workers=1)
    for statistics in evaluate(request).evaluation.totals.variants.values():
        assert sum(statistics.own.segmentation.pixels.total)
        assert 0 < statistics.own.attention.lowest < 1
    with pytest.raises(GateError, match=r"mean cosine of attention .* --min-cosine 0\.9999999"):
        export(replace(asked, output=tmp_path / "strict", min_cosine=0.9999999))


def test_metres_that_a_head_was_not_trained_for_are_refused(tmp_path, fitted):
    """No gate could see it: what the files are compared with would have them too."""
    asked = request_for(tmp_path, fitted)
    source = CheckpointSource(head=fitted[1][1], depth_range=(1.0, 2.0))
    with pytest.raises(EdgeError, match="trained for 1 to 4 metres, and --depth-range says 1 to 2"):
        export(replace(asked, checkpoint=source))


def test_an_evaluation_with_other_heads_is_another_one(tmp_path, fitted):
    data, heads = fitted
    asked = request_for(tmp_path, fitted, Task.DEPTH, core_counts=(64,), precisions=("fp32",), outputs=("cls", "depth"))
    bundle = export(asked).bundle.directory
    request = EvaluateRequest(bundle=bundle, data=str(data[Task.DEPTH]), workers=1)
    without = evaluate(request)
    assert any("no head for depth" in note and "--head FILE" in note for note in without.notes)
    (statistics,) = without.evaluation.totals.variants.values()
    assert not sum(statistics.own.depth.close.total)
    named = evaluate(replace(request, checkpoint=CheckpointSource(head=heads)))
    (statistics,) = named.evaluation.totals.variants.values()
    assert sum(statistics.own.depth.close.total), "it was not read from what was stored"
    assert not any("no head" in note for note in named.notes)


def test_known_depths_judge_depth(tmp_path, fitted):
    asked = request_for(tmp_path, fitted, Task.DEPTH, core_counts=(64,), precisions=("fp32",), outputs=("depth",))
    (fidelity,) = export(asked).fidelity
    assert fidelity.reference.depth.mean_error < 1e-5
    assert fidelity.reference.depth_truth.delta1 > 0.8
    assert fidelity.reference.depth_truth == fidelity.reference_depth or (
        abs(fidelity.reference.depth_truth.rmse - fidelity.reference_depth.rmse) < 1e-4
    )


def test_a_gate_on_the_task_lets_nothing_through(tmp_path, fitted):
    asked = request_for(tmp_path, fitted, core_counts=(64,), outputs=("cls", "depth"), precisions=("fp32",))
    with pytest.raises(GateError, match=r"mean depth difference .* above --max-depth-error 1e-12"):
        export(replace(asked, max_depth_error=1e-12))
    assert not asked.output.exists()


@pytest.mark.parametrize(
    ("outputs", "gate", "message"),
    [
        (
            ("cls", "dense"),
            {"min_agreement": 0.999},
            "--min-agreement is a gate on logits or segmentation or segmentation_logits, and .* cls, ",
        ),
        (("cls", "dense"), {"min_agreement": 0.999}, "\nAdd logits to --outputs, or leave --min-agreement out"),
        ((), {"max_depth_error": 1e-5}, "\nGive a head for depth with --head FILE, or leave --max-depth-error out"),
        (("segmentation",), {"max_depth_error": 0.02}, "is a gate on depth, and this export gives segmentation"),
    ],
)
def test_a_gate_on_an_output_that_is_not_there_is_refused(tmp_path, outputs, gate, message):
    request = ExportRequest(tmp_path / "bundle", precisions=("fp32",), outputs=outputs, **gate)
    with pytest.raises(EdgeError, match=message):
        export(request)


def test_defaults_are_gates_on_what_is_there_and_run_files_with_others_are_read(tmp_path):
    asked = ExportRequest(tmp_path / "bundle", precisions=("fp32",), outputs=("segmentation",))
    checkpoint = checkpoint_of(asked.checkpoint)
    spec = spec_of(asked, checkpoint)
    assert (spec.min_agreement, spec.max_depth_error) == (0.98, None)
    path = tmp_path / "run.toml"
    path.write_text(run_file(asked, spec))
    assert spec_of(ExportRequest.from_toml(path), checkpoint) == spec
    path.write_text(path.read_text() + "max-depth-error = 0.02\n")  # as earlier versions wrote it
    assert spec_of(ExportRequest.from_toml(path), checkpoint) == spec
    with pytest.raises(EdgeError, match="is a gate on depth"):
        spec_of(ExportRequest.from_toml(path, typed={"--max-depth-error": 0.02}), checkpoint)


def test_masks_with_classes_that_the_head_does_not_know(tmp_path, fitted):
    folder = write_labelled(tmp_path / "data", Task.SEGMENT, count=8)
    Image.fromarray(np.full((32, 32), 5, np.uint8)).save(folder / "masks" / "3.png")
    asked = request_for(tmp_path, fitted, precisions=("fp32",))
    with pytest.raises(EdgeError, match=r"beyond the 2 of the head: .*3\.png"):
        export(replace(asked, images=ImageSource(evaluation=folder)))
    (folder / "masks" / "4.png").unlink()
    with pytest.raises(EdgeError, match=r"Nothing is in .* for 1 image: .*4\.png"):
        export(replace(asked, images=ImageSource(evaluation=folder)))


def test_heads_as_they_are_typed(tmp_path):
    source = CheckpointSource(head=["segment=a.pth", "b.pth#best", tmp_path / "c=d.pth"], depth_range=(0.1, 5.0))
    assert source.head_files == (
        HeadFile(source.head_files[0].path, Task.SEGMENT),
        HeadFile(source.head_files[1].path, None, "best", (0.1, 5.0)),
        HeadFile(tmp_path / "c=d.pth", None, None, (0.1, 5.0)),
    )
    with pytest.raises(EdgeError, match="paint"):
        CheckpointSource(head=["paint=a.pth"]).head_files  # noqa: B018
    with pytest.raises(EdgeError, match="--depth-range is for a depth head, and none was given"):
        CheckpointSource(head=["segment=a.pth"], depth_range=(0.1, 5.0)).head_files  # noqa: B018
    with pytest.raises(EdgeError, match="Two files of labels"):
        CheckpointSource(labels=["a.txt", "b.txt"]).label_files  # noqa: B018
