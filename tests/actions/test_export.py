"""Exports for real: bundles of the demo model, the gate, and every refusal before anything slow."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_data import write_labelled
from measured import MACHINE
from PIL import Image

from veca_edge.actions.export import export
from veca_edge.actions.images import choose_files, choose_images
from veca_edge.actions.live import open_live
from veca_edge.actions.request import ExportRequest, ImageSource
from veca_edge.actions.resolve import checkpoint_of
from veca_edge.actions.run import run
from veca_edge.actions.run_request import LiveRequest
from veca_edge.actions.verify import verify
from veca_edge.base.errors import EdgeError, GateError
from veca_edge.base.progress import silent
from veca_edge.base.spec import ImageSize
from veca_edge.base.tasks import Task
from veca_edge.bundle.store import open_bundle
from veca_edge.demo import demo_calibration, demo_checkpoint, demo_evaluation
from veca_edge.proof.gate import Gate, below_gate
from veca_edge.targets.cpu import CPU
from veca_edge.targets.table import TARGETS


def test_the_demo_is_exported_and_close_to_the_reference(result):
    by_name = {f.name: f.reference for f in result.fidelity}
    assert set(by_name) == {f"cores{c}_{p}_32x32" for c in (8, 16) for p in ("int8", "fp32")}
    for name, agreement in by_name.items():
        floor = 0.9996 if "int8" in name else 0.999999
        assert agreement.cls.mean > floor
        assert agreement.dense.mean > floor
        assert agreement.top1_agreement > 0.97
        assert agreement.top1 is not None


def test_the_bundle_says_what_it_is(result):
    bundle = open_bundle(result.bundle.directory)
    assert bundle.core_counts == (8, 16)
    assert bundle.recipe == "recipe.safetensors"
    assert bundle.labels is not None
    assert "airplane" in bundle.labels
    assert {a.path for a in bundle.artifacts} <= {
        p.relative_to(bundle.directory).as_posix() for p in bundle.directory.rglob("*")
    }
    assert (bundle.directory / "README.md").is_file()


def test_int8_of_several_core_counts_is_smaller_than_half_of_fp32(result):
    sizes = {a.name: a.bytes for a in result.bundle.artifacts}
    assert sizes["cores8_int8_32x32"] < 0.32 * sizes["cores8_fp32_32x32"]


def test_batches_are_filled_up_and_cut_again(few_images, tmp_path):
    images = ImageSource(evaluation=few_images)
    request = ExportRequest(tmp_path / "b", images=images, core_counts=(8,), precisions=("fp32",), outputs=("cls",))
    made = export(replace(request, batch=3))
    assert made.fidelity[0].reference.cls.mean > 0.99999
    predictions = run(tmp_path / "b", sorted(demo_evaluation().rglob("*.jpg"))[:4]).images
    assert len(predictions) == 4


def test_planar_pixels_for_deepstream(result, few_images, tmp_path):
    """The input that nvinfer gives: whole bundles take it everywhere that they take frames, and say what it is."""
    images = ImageSource(evaluation=few_images)
    request = ExportRequest(tmp_path / "b", target="jetson", images=images, core_counts=(8,), precisions=("fp32",))
    made = export(replace(request, input="planar"))
    assert made.fidelity[0].reference.cls.mean > 0.99999
    assert [check.ok for check in verify(tmp_path / "b")] == [True]
    assert "float32 RGB `[1, 3, H, W]`, values 0 to 255" in (tmp_path / "b/README.md").read_text()
    folder = next(demo_evaluation().rglob("*.jpg")).parent
    paths = sorted(folder.iterdir())[:2]
    planar = run(tmp_path / "b", paths, format="onnx").images
    frames = run(result.bundle.directory, paths, 8, "fp32").images
    for one, other in zip(planar, frames, strict=True):
        np.testing.assert_allclose(one.outputs["cls"], other.outputs["cls"], atol=1e-4)
    with open_live(LiveRequest(bundle=tmp_path / "b", source=str(folder), frames=1, format="onnx")) as running:
        (step,) = running.steps
        np.testing.assert_allclose(step.outputs["cls"], frames[0].outputs["cls"], atol=1e-4)
        with pytest.raises(EdgeError, match="0 to 255"):
            running.model(np.zeros((*running.model.image_size, 3), np.uint8))


def test_a_gate_that_nothing_reaches_leaves_no_bundle(few_images, tmp_path):
    images = ImageSource(evaluation=few_images)
    request = ExportRequest(tmp_path / "b", images=images, core_counts=(8,), precisions=("fp32",), min_cosine=1.0)
    with pytest.raises(GateError, match=r"--min-cosine 1.0: 8 cores fp32 at 32x32: 0\.9999\d+\."):
        export(request)
    assert list(tmp_path.iterdir()) == []


GATE = 0.99996


def test_layers_go_back_to_float_until_the_gate_holds(short_request, tmp_path, monkeypatch):
    """The images that judge decide how many: here more than one, and not all. What takes long is compiled once."""
    compiled = []

    def compile_once(written, progress):
        compiled.append([v.name for v in written.variants])
        return written.artifacts

    monkeypatch.setitem(TARGETS, "cpu", replace(CPU, compile=compile_once))
    made = export(
        replace(
            short_request,
            output=tmp_path / "b",
            core_counts=(16,),
            min_cosine=GATE,
            outputs=("cls", "dense"),
            measure=False,
        )
    )
    kept = made.bundle.details.kept_float
    assert 1 < len(kept) < 8
    assert not below_gate(made.fidelity, Gate(GATE), ("int8",))
    assert any(name in note for name in kept for note in made.notes)
    assert compiled == [[a.name for a in made.bundle.artifacts]]


def test_auto_ships_what_is_left_when_int8_misses_the_gate(short_request, few_images, tmp_path, monkeypatch):
    import veca_edge.actions.make as action

    monkeypatch.setattr(action, "with_float_layers", lambda sources, made, *_: made)
    images = replace(short_request.images, count=8, evaluation=few_images)
    strict = replace(short_request, images=images, core_counts=(8,), min_cosine=0.99999)
    made = export(replace(strict, output=tmp_path / "b", precisions=("auto",)))
    assert made.bundle.precisions == ("fp32",)
    assert "auto chose fp32" in made.notes[0]


@pytest.mark.parametrize(
    ("int8_ms", "load", "chosen", "note"),
    [
        (5.0, 0.01, "int8", "auto chose int8."),
        (20.0, 0.01, "fp32", "auto chose fp32. int8 is 2.00x SLOWER"),
        (10.0, 0.01, "fp32", "auto chose fp32. There is no measurable difference"),
        (
            20.0,
            0.93,
            "int8",
            "auto chose int8: it holds the gate. Its speed against fp32 is not measurable here: other",
        ),
    ],
)
def test_auto_decides_by_what_could_be_measured(int8_ms, load, chosen, note, result, tmp_path, monkeypatch):
    import veca_edge.actions.export as action
    from veca_edge.profiles.measurement import measurement_of
    from veca_edge.profiles.verdict import Verdict

    low, high = (next(a for a in result.bundle.artifacts if a.precision == p) for p in ("int8", "fp32"))

    def timed(artifact, ms):
        samples = [ms * (1 + i / 1000) for i in range(40)]
        made = measurement_of(artifact, MACHINE, samples, "2026-01-02T03:04:05+00:00")
        return replace(made, details={"rounds": [{"other_load": load}]})

    def exported(request, *_):
        verdict = Verdict(timed(low, int8_ms), timed(high, 10.0)) if request.precisions == ("int8",) else None
        asked.append(request.precisions)
        return replace(result, verdict=verdict, notes=())

    asked = []
    monkeypatch.setattr(action, "export", exported)
    made = action.export_fastest(ExportRequest(tmp_path / "b", precisions=("auto",)), lambda *_: None, lambda _: None)
    assert asked[-1] == (chosen,)
    assert made.notes[0].startswith(note)


def test_evaluation_images_never_calibrate(short_request, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(demo_calibration(), folder)
    made = export(
        ExportRequest(
            tmp_path / "b",
            checkpoint=short_request.checkpoint,
            images=ImageSource(folder),
            core_counts=(8,),
            image_sizes=(ImageSize(32, 32),),
            measure=False,
        )
    )
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["fidelity"][0]["reference"]["images"] >= 8
    assert any("held back" in note for note in made.notes)


@pytest.mark.parametrize("spelled", ["seg", "seg/images", "./seg", "seg/../seg"])
def test_one_folder_that_calibrates_and_judges_is_split_however_it_is_spelled(tmp_path, monkeypatch, spelled):
    write_labelled(tmp_path / "seg", Task.SEGMENT)
    monkeypatch.chdir(tmp_path)
    request = ExportRequest(Path("b"), images=ImageSource(Path(spelled), evaluation=tmp_path / "seg", count=16))
    files = choose_files(request)
    assert (len(files.calibration), len(files.evaluation)) == (16, 8)
    assert not {path.resolve() for path in files.calibration} & set(files.evaluation)
    size = ImageSize(32, 32)
    split = choose_images(request, checkpoint_of(request.checkpoint), [size], silent)[size]
    assert (split.truth((8, 8)).masks >= 0).all(), "masks are found by the spelling of --evaluation"
    some = choose_files(replace(request, images=replace(request.images, count=128)))
    assert (len(some.calibration), len(some.evaluation)) == (20, 4), "a fifth is held back where none are to spare"


def test_calibration_images_that_judge_too_are_told_of(few_images, short_request, tmp_path):
    shutil.copytree(few_images, tmp_path / "all" / "few")
    images = ImageSource(tmp_path / "all", evaluation=tmp_path / "all" / "few")
    request = replace(short_request, output=tmp_path / "b", core_counts=(8,))
    shutil.copy(next(demo_calibration().rglob("*.jpg")), tmp_path / "all" / "another.jpg")
    files = choose_files(replace(request, images=images))
    assert [path.name for path in files.calibration] == ["another.jpg"]
    assert files.notes[
        0
    ] == f"{len(files.evaluation)} of the {len(files.evaluation) + 1} calibration images are in " + (
        "--evaluation too: they judge, and do not calibrate."
    )
    with pytest.raises(EdgeError, match="none is left: all of them are in --evaluation too"):
        export(replace(request, images=ImageSource(tmp_path / "all" / "few", evaluation=tmp_path / "all")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": demo_checkpoint()}, "calibrate"),
        ({"target": "toaster"}, "Known: cpu"),
        ({"precisions": ("int4",)}, "Known: int8"),
        ({"input": "planar"}, "'cpu' has no input 'planar'.\nKnown: image, tensor"),
        ({"core_counts": (12,)}, "Possible: 8, 16"),
        ({"core_counts": (128,)}, "bank holds 64"),
        ({"image_sizes": (ImageSize(30, 32),)}, "nearest"),
        ({"images": ImageSource(evaluation=Path("nowhere"))}, "nowhere"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(EdgeError, match=message):
        export(ExportRequest(tmp_path / "b", **change))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo").write_text("mine")
    with pytest.raises(EdgeError, match="exists"):
        export(ExportRequest(tmp_path / "b"))
    with pytest.raises(EdgeError, match="not a bundle"):
        export(ExportRequest(tmp_path / "b", force=True))
    assert (tmp_path / "b" / "photo").read_text() == "mine"


def test_images_that_do_not_decode_are_named(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(np.full((40, 40, 3), i, np.uint8)).save(folder / f"{i}.png")
    for i in range(8):
        (folder / f"broken{i}.jpg").write_bytes(b"no image")
    with pytest.raises(EdgeError, match="broken"):
        export(
            ExportRequest(
                tmp_path / "b",
                checkpoint=demo_checkpoint(),
                images=ImageSource(folder, count=4, seed=2),
                core_counts=(8,),
                image_sizes=(ImageSize(32, 32),),
            )
        )


def test_logits_without_a_head_are_refused(square, tmp_path, data):
    with pytest.raises(EdgeError, match="head"):
        export(
            ExportRequest(
                tmp_path / "b",
                checkpoint=data / "square.pt",
                precisions=("fp32",),
                outputs=("logits",),
                core_counts=(8,),
                image_sizes=(ImageSize(64, 64),),
            )
        )


@pytest.mark.parametrize(("names", "noted"), [(("cat", "catt"), True), (("cat", "ship"), False), (("photos",), False)])
def test_folders_of_an_evaluation_that_name_no_class_are_told_of(tmp_path, names, noted):
    for name, image in zip(names, sorted(demo_evaluation().rglob("*.jpg")), strict=False):
        (tmp_path / name).mkdir()
        shutil.copy(image, tmp_path / name)
    size = ImageSize(32, 32)
    request = ExportRequest(tmp_path / "b", images=ImageSource(evaluation=tmp_path), precisions=("fp32",))
    split = choose_images(request, checkpoint_of(request.checkpoint), [size], silent)[size]
    assert any("Some folder names match no class (catt)" in note for note in split.notes) == noted


def test_images_that_show_nothing_do_not_calibrate(tmp_path):
    for grey in range(9):
        Image.new("RGB", (40, 50), (100 + grey,) * 3).save(tmp_path / f"{grey}.png")
    request = ExportRequest(tmp_path / "b", images=ImageSource(tmp_path, evaluation=demo_evaluation()))
    with pytest.raises(EdgeError, match="All 9 images that calibrate are of one colour each"):
        choose_images(request, checkpoint_of(request.checkpoint), [ImageSize(32, 32)], silent)
