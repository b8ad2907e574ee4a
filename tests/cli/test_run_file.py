"""`veca-edge export --config` and `--like`, and what `inspect` prints of a run."""

from __future__ import annotations

import json


def test_a_run_file_is_exported_typed_options_win_and_inspect_prints_it(veca_edge, checkpoint, tmp_path):
    run = tmp_path / "tiny.toml"
    run.write_text(
        f'checkpoint = "{checkpoint}"\noutput = "out"\nprecision = "fp32"\nimage-size = 16\ncores = "all"\n'
        f'evaluation = "photos"\nmeasure = false\n'
    )
    (tmp_path / "photos").mkdir()
    from veca_edge.demo import demo_evaluation

    for image in sorted(demo_evaluation().rglob("*.jpg"))[:4]:
        (tmp_path / "photos" / image.name).write_bytes(image.read_bytes())
    made = veca_edge("export", "--config", run, "--cores", "8")
    assert made.code == 0, made.err
    assert "Instead of what the run file says: --cores 8 (all in the run file)." in made.err

    shown = veca_edge("inspect", tmp_path / "out")
    assert "How it was made (run.toml)" in shown.out
    assert f'  checkpoint = "{checkpoint}"' in shown.out
    assert "--cores 8 (all in the run file)" in shown.out
    told = json.loads(veca_edge("inspect", tmp_path / "out", "--json").out)["run"]
    assert (told["cores"], told["evaluation"]) == ([8], str(tmp_path / "photos"))

    again = veca_edge("export", "--like", tmp_path / "out", checkpoint, "--output", tmp_path / "again")
    assert again.code == 0, again.err
    models = "models/cores8_fp32_16x16.onnx"
    assert (tmp_path / "again" / models).read_bytes() == (tmp_path / "out" / models).read_bytes()


def test_one_of_the_two_is_given_and_an_option_of_another_target_is_refused(veca_edge, bundle, tmp_path):
    (tmp_path / "run.toml").write_text("cores = [8]\n")
    both = veca_edge("export", "--config", tmp_path / "run.toml", "--like", bundle)
    assert both.code == 2
    assert "Both --config and --like were given." in both.err
    foreign = veca_edge("export", "--like", bundle, "--ios", "18", "--output", tmp_path / "b")
    assert foreign.code == 2
    assert "--ios is an option of the target 'apple', not of 'cpu'." in foreign.err
    missing = veca_edge("export", "--config", tmp_path / "none.toml")
    assert missing.code == 2
    assert "none.toml can't be read as TOML: No such file" in missing.err
