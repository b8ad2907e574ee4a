"""Run files: what repeats an export, and what one may say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from veca_edge.actions.export import export
from veca_edge.actions.request import CheckpointSource, ExportRequest, ImageSource
from veca_edge.base.errors import EdgeError
from veca_edge.base.files import files_below
from veca_edge.base.spec import ImageSize
from veca_edge.base.tasks import HeadFile, Task
from veca_edge.bundle.store import open_bundle, verify_files
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.demo import demo_calibration
from veca_edge.model.checkpoint import load_checkpoint, save_safetensors


@pytest.fixture(scope="module")
def original(short_request, few_images, tmp_path_factory):
    images = ImageSource(demo_calibration(), count=8, evaluation=few_images, seed=3)
    output = tmp_path_factory.mktemp("runs") / "original"
    request = replace(
        short_request, output=output, images=images, core_counts=(8,), measure=False, outputs=("cls", "dense")
    )
    return export(replace(request, min_cosine=0.9)).bundle


def contents(directory: Path) -> dict[str, bytes]:
    """Every file's bytes; the manifest without its date."""
    found = {file.relative_to(directory).as_posix(): file.read_bytes() for file in files_below(directory)}
    manifest = json.loads(found["manifest.json"])
    del manifest["created_at"]
    return {**found, "manifest.json": json.dumps(manifest).encode()}


def test_like_gives_the_same_bytes_for_the_same_weights_and_others_for_others(original, short_request, tmp_path):
    same = shutil.copy(short_request.checkpoint.path, tmp_path / short_request.checkpoint.path.name)
    again = export(ExportRequest.like(original.directory, output=tmp_path / "again")).bundle
    assert contents(again.directory) == contents(original.directory)
    assert "run.toml" in again.files
    assert verify_files(again) == verify_files(original)

    moved = export(ExportRequest.like(original, Path(same), tmp_path / "moved")).bundle
    changed = {name for name, data in contents(moved.directory).items() if data != contents(original.directory)[name]}
    # The run file says where the weights were, and the manifest holds its digest.
    assert changed == {"run.toml", "manifest.json"}

    retrained = load_checkpoint(short_request.checkpoint.path)
    tensors = {name: tensor * 1.001 for name, tensor in retrained.tensors.items()}
    save_safetensors(replace(retrained, tensors=tensors), tmp_path / "new.safetensors")
    new = export(ExportRequest.like(original, tmp_path / "new.safetensors", tmp_path / "new")).bundle
    assert new.spec == original.spec
    assert new.artifacts[0].sha256 != original.artifacts[0].sha256


def test_what_is_typed_wins_and_is_recorded(original, tmp_path):
    typed = {"--precision": "fp32", "--cores": "8", "--batch": None, "--min-cosine": 0.9}
    result = export(ExportRequest.like(original, output=tmp_path / "b", typed=typed))
    said = "--precision fp32 (int8 in the run file)"
    assert result.notes[0] == f"Instead of what the run file says: {said}."
    bundle = open_bundle(tmp_path / "b")
    assert bundle.precisions == ("fp32",)
    assert bundle.details.overridden == (said,)
    assert ExportRequest.like(bundle).precisions == ("fp32",)


REQUESTS = [
    ExportRequest(Path("b")),
    ExportRequest(
        Path("b"),
        CheckpointSource(
            Path("m.pt"), head=(HeadFile(Path("h.pt"), Task.DEPTH, "probe", (0.1, 20.0)),), labels=("classify=l.txt",)
        ),
        ImageSource(Path("photos"), count=40, seed=7, resize="short-side", crop_ratio=0.875),
        core_counts=(),
        target="jetson",
        options=TensorrtOptions("8.6", elastic=True),
        precisions=("int8", "fp16"),
        image_sizes=(ImageSize(32, 48), ImageSize(64, 64)),
        batch=2,
        input="tensor",
        outputs=("cls",),
        min_cosine=0.97,
        min_agreement=0.9,
        threads=3,
        measure=False,
    ),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_is_read_back_as_it_was_written(request_, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(request_.to_toml())
    read = ExportRequest.from_toml(path, output=Path("b"))
    assert read.to_toml() == request_.to_toml()
    source = read.checkpoint
    if request_.checkpoint.path is not None:
        assert source.path == Path("m.pt").absolute()
        assert source.head_files == (HeadFile(Path("h.pt").absolute(), Task.DEPTH, "probe", (0.1, 20.0)),)
        assert source.label_files == {Task.CLASSIFY: Path("l.txt").absolute()}
        assert read.options == request_.options
        assert read.images == replace(request_.images, calibration=Path("photos").absolute())
        assert replace(read, checkpoint=source, images=read.images) == replace(
            request_, checkpoint=source, images=read.images
        )


def test_paths_are_relative_to_the_file_and_lists_may_be_text(tmp_path):
    path = tmp_path / "door" / "run.toml"
    path.parent.mkdir()
    path.write_text(
        'checkpoint = "m.pt"\noutput = "../out"\ncores = "8,16"\nimage-size = [64, "32x48"]\nprecision = "fp32"\n'
        'head = "depth=heads/metres.pt#best"\ndepth-range = [0.5, 10]\n'
    )
    read = ExportRequest.from_toml(path)
    assert read.checkpoint.path == path.parent / "m.pt"
    assert read.output == path.parent / "../out"
    assert read.checkpoint.head_files[0].path == path.parent / "heads/metres.pt"
    assert (read.core_counts, read.image_sizes) == ((8, 16), (ImageSize(64, 64), ImageSize(32, 48)))
    assert read.checkpoint.depth_range == (0.5, 10.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("calibraton = 'x'", r"unknown key 'calibraton'.\nDid you mean 'calibration'\? Known: batch, calibration"),
        ("core_counts = [8]", "unknown key 'core_counts'"),
        ("image_size = 32", "Did you mean 'image-size'"),
        ("ios = 18", "'ios' is an option of the target 'apple', not of 'cpu'"),
        ("calibration = ''", "'calibration' is empty"),
        ("batch = '2'", "'batch' is not a whole number"),
        ("batch = true", "'batch' is not a whole number"),
        ("batch = 0", "'batch' is 0, but it has to be 1 to 4096"),
        ("measure = 1", "'measure' is not true or false"),
        ("cores = [[8]]", "'cores' is neither text nor a list"),
        ("cores = 'many'", "'many' is not a core count"),
        ("target = 'toaster'", "Known: cpu"),
        ("target = ['cpu', 'toaster']", "Unknown target 'toaster'"),
        ("target = [8]", "'target' is neither text nor a list"),
        ("target = 'cpu,'", "'target' 'cpu,' has an empty name"),
        ("target = 'cpu,jetson'", "is for several targets: cpu, jetson"),
        ("target = 'jetson'\ntensorrt = 10.10", "'tensorrt' is not text"),
        ("cores = [8", "can't be read as TOML"),
        ("a = " + "[" * 100_000, "can't be read as TOML"),
        ("batch = 1\nbatch = 2", "can't be read as TOML"),
    ],
)
def test_what_a_run_file_may_not_say(text, message, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(EdgeError, match=message):
        ExportRequest.from_toml(path)


@pytest.mark.parametrize("said", ['["cpu", "jetson"]', '"cpu,jetson"'])
def test_a_file_for_several_targets_says_what_each_of_them_is_asked(said, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(f'target = {said}\noutput = "out"\ntensorrt = "8.6"\n')
    cpu, jetson = (ExportRequest.from_toml(path, typed={"--target": name}) for name in ("cpu", "jetson"))
    assert (cpu.target, cpu.output, cpu.overridden) == ("cpu", tmp_path / "out" / "cpu", ())
    assert (jetson.target, jetson.output, jetson.overridden) == ("jetson", tmp_path / "out" / "jetson", ())
    assert jetson.options.tensorrt == "8.6"
    with pytest.raises(EdgeError, match="'tensorrt' is an option of the target 'jetson', not of 'apple'"):
        ExportRequest.from_toml(path, typed={"--target": "apple"})
    path.write_text(f"target = {said}\n")
    assert ExportRequest.from_toml(path, typed={"--target": "apple"}).overridden == (
        "--target apple (cpu,jetson in the run file)",
    )


def test_what_was_typed_of_a_board_takes_the_place_of_what_the_file_says(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(ExportRequest(Path("b"), target="jetson", options=TensorrtOptions("8.6")).to_toml())
    read = ExportRequest.from_toml(path, typed={"--jetpack": "6.2"})
    assert read.options.tensorrt != "8.6"
    assert read.overridden == ("without --tensorrt 8.6, which the run file has",)
    named = ExportRequest.from_toml(path, typed={"--device": "ssh://orin"})
    assert named.device == "ssh://orin"


def test_a_run_file_that_was_changed_or_never_written_repeats_nothing(original, tmp_path):
    shutil.copytree(original.directory, tmp_path / "b")
    (tmp_path / "b" / "run.toml").write_text("batch = 2\n")
    with pytest.raises(EdgeError, match="changed or removed"):
        ExportRequest.like(tmp_path / "b")
    old = replace(open_bundle(tmp_path / "b"), files={})
    with pytest.raises(EdgeError, match="an earlier veca-edge made it"):
        ExportRequest.like(old)
