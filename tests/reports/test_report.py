import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browsers import browser_path
from measured import MACHINE, OTHER_MACHINE, SIZE, made_up_bundle, measure

from veca_edge.actions.recorded_run import RecordedRun, save_run
from veca_edge.base.errors import EdgeError, MissingDependency
from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.bundle.types import CheckpointFacts
from veca_edge.profiles.measurement import Sustained, Window
from veca_edge.reports.text import markdown_cell
from veca_edge.reports.write import ReportOptions, write_report
from veca_edge.runtime.tally import STAGES, CoreCountSummary, StageSummary, Summary

HOSTILE = '"><img src=x onerror=alert(1)></style><script>alert(1)</script>|`{{ 7*7 }}` $\\alpha$'
STEADY = {"total_mw": 9000.0, "gpu_mhz": [600.0, 918.0, 918.0], "hottest_c": 61.2}


class Page(HTMLParser):
    """The tags of a page, whether they nest, and every reference that a browser would follow by itself."""

    VOID = ("meta", "link", "img", "br", "use", "path", "line", "rect", "circle")

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.sources, self.ids, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.sources += [found[name] for name in ("src", "href", "xlink:href") if name in found]
        assert not [name for name in found if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def tables(markdown: str) -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)]


def check_tables(markdown: str) -> None:
    found = tables(markdown)
    assert found
    for lines in found:
        assert set(lines[1]) <= set("|-: ")
        assert len({line.count("|") for line in lines}) == 1


@pytest.fixture(scope="module")
def full(real_bundle, square_file, tmp_path_factory):
    """A report with everything that can be made here."""
    output = tmp_path_factory.mktemp("full") / "deep" / "report.html"
    steps = []
    files = write_report(
        [real_bundle.directory],
        output,
        ReportOptions(checkpoint=square_file, operators=True, threads=1),
        lambda *step: steps.append(step),
    )
    assert {step[0] for step in steps} == {"profiling operators", "drawing patch fidelity", "drawing attention"}
    assert all(0 < done <= total for _, done, total in steps)
    return files


def test_models_that_were_changed_are_neither_timed_nor_drawn(real_bundle, tmp_path):
    """A flipped bit of a weight still reads well."""
    changed = shutil.copytree(real_bundle.directory, tmp_path / "changed")
    weights = next(changed.rglob("weights.bin"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EdgeError, match=r"is not what was exported; changed: .*weights\.bin"):
        write_report([changed], tmp_path / "timed.html", ReportOptions(operators=True, threads=1))
    (left,) = (o for o in write_report([changed], tmp_path / "drawn.html").left_out if "per patch" in o.what)
    assert "is not what was exported; changed" in left.why


def test_a_whole_report(full):
    assert full.left_out == ()
    assert full.markdown.name == "report.md"
    page = Page(full.html.read_text())
    for said in (
        "square on cpu",
        "faster (95% intervals) than fp32",
        "Latency against core count",
        "Pareto",
        "Operators and layers",
        "MatMulIntegerToFloat",
        "Fidelity per patch",
        "What the cores look at",
        "How it was measured",
        MACHINE.name,
        MACHINE.machine_id,
        "onnxruntime 1.31.0",
        "101 samples a variant, from 2 rounds",
        "none of them calibrated anything",
    ):
        assert said in page.text, said
    # 10 ms at 8 cores in int8; p95 5% above.
    assert re.search(r"int8, 8 cores\s*10\.0\s*10\.5", page.text)


def run_of(bundle, **changed):
    """A made-up live run of a bundle."""
    stages = [
        StageSummary(name, mean, mean - 0.5, mean + 2)
        for name, mean in zip(STAGES, (8.0, 3.25, 5.5, 60.25, 69.0, 1.75), strict=True)
    ]
    summary = Summary(
        *(1234, 41.5, 29.7, 5.5, 60.0, 0.875, 3, 0.07, (), (CoreCountSummary(8, 1234, 60.0, 64.0),), tuple(stages)),
        *(70.0, 0.953, 12, 1),
    )
    run = RecordedRun(
        *(bundle.checkpoint.name, bundle.checkpoint.digest, "int8", (32, 32), "rtsp://camera", "stream", 2),
        *(MACHINE, "2026-01-02T03:04:05Z", summary),
    )
    return replace(run, **changed)


def test_live_runs(real_bundle, tmp_path):
    save_run(tmp_path / "a.json", run_of(real_bundle))
    save_run(tmp_path / "b.json", run_of(real_bundle, source=HOSTILE, threads=None))
    options = ReportOptions(pictures=False, runs=(tmp_path / "a.json", tmp_path / "b.json"))
    files = write_report([real_bundle.directory], tmp_path / "r.html", options)
    page, markdown = Page(files.html.read_text()), files.markdown.read_text()
    check_tables(markdown)
    assert "script" not in page.tags
    for said in (
        "int8 at 32x32, 2 threads on",
        "1,234 frames in 41.5 s, 29.7 a second; 12 frames gave way to a newer one; the source came back 1 time.",
        "87.5% of the frames within 60 ms for the model, 95.3% of the frames within 70 ms from capture to result; "
        "the core count changed 3 times.",
    ):
        assert said in page.text, said
        assert said in markdown, said
    assert "| waiting | 3.25 | 2.75 | 5.25 | between the stages |" in markdown
    assert "| recording | 1.75 |" in markdown
    assert re.search(r"capturing\s*8\.00\s*7\.50\s*10\.0\s*reading and decoding", page.text)
    save_run(tmp_path / "other.json", run_of(real_bundle, checkpoint="0" * 64))
    options = ReportOptions(pictures=False, runs=(tmp_path / "other.json",))
    with pytest.raises(EdgeError, match="none of these bundles was made from"):
        write_report([real_bundle.directory], tmp_path / "s.html", options)
    assert not (tmp_path / "s.html").exists()


def test_it_needs_no_network_and_runs_nothing(full):
    text = full.html.read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert not re.search(r"url\((?!#|data:)|@import", text)
    assert "default-src 'none'" in text
    assert len(page.ids) == len(set(page.ids))
    links = {source[1:] for source in page.sources if source.startswith("#")}
    assert links <= set(page.ids)


def test_figures_have_the_pages_colours_and_two_layouts(full):
    text = full.html.read_text()
    assert "#abc" not in text
    plots = re.findall(r'<svg viewBox="0 0 ([\d.]+)', text)
    assert plots.count("536") == plots.count("346") == 4  # latency, memory, cosine, top-1
    assert "var(--c1)" in text
    assert "prefers-color-scheme: dark" in text
    assert "<title>int8, 8 cores: 10 ms, p95 10.5 ms</title>" in text


def test_markdown_says_the_same(full):
    text = full.markdown.read_text()
    check_tables(text)
    assert "| int8 | 8 | 10.0 | 10.5 |" in text
    assert "| 8 | 10.0 | 20.0 | 2.00x | 0." in text
    assert "MatMulIntegerToFloat" in text


def test_what_is_left_out_is_said(real_bundle, tmp_path):
    files = write_report([real_bundle.directory], tmp_path / "r.html", ReportOptions(pictures=False))
    assert [what for what, _ in files.left_out] == [
        "Operator and layer times of real",
        "Fidelity per patch",
        "Core-to-patch attention",
    ]
    for text in (files.html.read_text(), files.markdown.read_text()):
        assert "Left out of this report" in text
        assert "--operators" in text
        assert "--checkpoint FILE" in text


def test_models_that_do_not_run_here_leave_their_pictures_out(tmp_path):
    made_up_bundle(tmp_path / "out")
    files = write_report([tmp_path / "out"], tmp_path / "r.html")
    reasons = dict(files.left_out)
    assert "golden" in reasons["Fidelity per patch of out"]


def test_bundles_are_compared_side_by_side(tmp_path):
    made_up_bundle(tmp_path / "v1")
    made_up_bundle(tmp_path / "v2", scale=0.5)
    made_up_bundle(
        tmp_path / "orin",
        OTHER_MACHINE,
        scale=0.25,
        details={
            "energy_mj": 5.0,
            "energy_above_idle_mj": 3.0,
            "steady": STEADY,
            "idle": {**STEADY, "total_mw": 4000.0},
            "layers": [["blocks.0.fc1", 1.5]],
        },
    )
    files = write_report(
        [tmp_path / name for name in ("v1", "v2", "orin")],
        tmp_path / "r.html",
        ReportOptions(pictures=False, title="Three"),
    )
    page = Page(files.html.read_text())
    assert "Side by side" in page.text
    assert re.search(r"int8, 8 cores\s*10\.0\s*0\.94900\s*5\.00 0\.50x\s*0\.94900\s*2\.50 0\.25x", page.text)
    assert "Power, heat and clocks" in page.text
    assert "600 to 918" in page.text
    assert "Energy against core count" in page.text
    text = files.markdown.read_text()
    check_tables(text)
    assert "| 8 | int8 | 10.0, 0.94900 | 5.00 (0.50x), 0.94900 | 2.50 (0.25x), 0.94900 |" in text
    assert "5.00 | 3 | 9.00 | 4.00 | 600 to 918 | 61.2 |" in text.replace("| 5 |", "| 5.00 |")


def test_several_sizes_settings_and_long_runs(tmp_path):
    run = Sustained(tuple(Window(float(i), 9, 10.0 + i / 30, 11.0, 12.0) for i in range(1, 181)))
    made_up_bundle(
        tmp_path / "out",
        sizes=(SIZE, type(SIZE)(64, 64)),
        setting="ane",
        sustained=run,
        details={"cost_share": {"ane": 0.9, "cpu": 0.1}, "operations": {"ane": 300, "cpu": 4}},
    )
    measure(open_bundle(tmp_path / "out"), setting="cpu")
    files = write_report([tmp_path / "out"], tmp_path / "r.html", ReportOptions(pictures=False))
    page = Page(files.html.read_text())
    for said in (
        "At 64x64",
        "ane, int8",
        "cpu, fp32",
        "Sustained load",
        "Compute units",
        "slows down under load",
        "12 of 24 measurements come with",
    ):
        assert said in page.text, said
    check_tables(files.markdown.read_text())
    files = write_report([tmp_path / "out"], tmp_path / "p.html")
    assert "Pictures of out at 64x64" in dict(files.left_out)


def test_hostile_names_break_nothing(tmp_path):
    path = tmp_path / HOSTILE.replace("/", "_")
    machine = replace(MACHINE, name=HOSTILE, versions={HOSTILE: HOSTILE})
    bundle = made_up_bundle(
        path,
        machine,
        name=HOSTILE,
        setting=HOSTILE,
        recorded_warnings=(HOSTILE,),
        details={"layers": [[HOSTILE, 1.0]], "cost_share": {HOSTILE: 1.0}, "operations": {HOSTILE: 1}},
    )
    write_manifest(
        replace(
            bundle,
            labels=(HOSTILE,),
            versions={HOSTILE: HOSTILE},
            checkpoint=CheckpointFacts(HOSTILE, "ab" * 32, bundle.checkpoint.config),
        )
    )
    made_up_bundle(tmp_path / "other", OTHER_MACHINE)
    files = write_report(
        [path, tmp_path / "other"], tmp_path / "r.html", ReportOptions(title=HOSTILE + "\n# and a line", pictures=False)
    )
    page = Page(files.html.read_text())
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert HOSTILE in page.text
    text = files.markdown.read_text()
    check_tables(text)
    assert "<" not in re.sub(r"&#\d+;", "", text)
    assert text.count("\n# ") == 0  # the title alone is of the first level, and has no second line


@pytest.mark.parametrize("ending", ["\n", "\u2028"])
def test_names_make_no_lines_headings_or_escapes_in_either_file(tmp_path, ending):
    hostile = f"{ending}# head{ending}{ending}## head2 \x1b[31m\x9b2J\x00\x7f\u202e `code` _em_ ~~no~~ ![i](u)"
    machine = replace(MACHINE, name=hostile, versions={hostile: hostile})
    bundle = made_up_bundle(
        tmp_path / "out",
        machine,
        name=hostile,
        recorded_warnings=(hostile,),
        details={"layers": [[hostile, 1.0]], "cost_share": {hostile: 1.0}, "operations": {hostile: 1}},
    )
    write_manifest(replace(bundle, versions={hostile: hostile}, labels=(hostile,)))
    files = write_report([tmp_path / "out"], tmp_path / "r.html", ReportOptions(title=hostile, pictures=False))
    for text in (files.markdown.read_text(), files.html.read_text()):
        assert [c for c in set(text) if not c.isprintable() and c != "\n"] == []
    text = files.markdown.read_text()
    assert "head2" in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert not [line for line in headings[1:] if line.lstrip("#").lstrip().startswith(("head", "&#35; head"))]
    assert not [line for line in text.splitlines() if re.match(r"#+ head", line)]
    for markup in ("`code`", "_em_", "~~", "![i]"):
        assert markup not in text
    check_tables(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("cores16_fp32_256x256", "cores16_fp32_256x256"),
        ("0.95000", "0.95000"),
        ("-1.5", "-1.5"),
        ("# a", "&#35; a"),
        ("1. a", "1&#46; a"),
        ("- a", "&#45; a"),
        ("---", "&#45;--"),
        ("===", "&#61;=="),
        ("a\n\n# b\x1b[0m", "a # b&#92;x1b&#91;0m"),
        ("_a_ a_b", "&#95;a&#95; a_b"),
        (None, None),
        (5, 5),
    ],
)
def test_markdown_cells(value, shown):
    assert markdown_cell(value) == shown


# ----------------------------------------------------------------------------------- bad input


def test_bad_outputs(tmp_path):
    made_up_bundle(tmp_path / "out")
    bare = ReportOptions(pictures=False)
    with pytest.raises(EdgeError, match=r"not a name for an HTML file") as caught:
        write_report([tmp_path / "out"], tmp_path / "report.pdf", bare)
    assert ".html" in caught.value.hint
    files = write_report([tmp_path / "out"], tmp_path / "r.html", bare)
    with pytest.raises(EdgeError, match="exists already") as caught:
        write_report([tmp_path / "out"], tmp_path / "r.html", bare)
    assert "--force" in caught.value.hint
    files.html.unlink()
    with pytest.raises(EdgeError, match=r"r\.md exists already"):
        write_report([tmp_path / "out"], tmp_path / "r.html", bare)
    write_report([tmp_path / "out"], tmp_path / "r.html", replace(bare, force=True))
    (tmp_path / "d.html").mkdir()
    with pytest.raises(EdgeError, match="is a directory"):
        write_report([tmp_path / "out"], tmp_path / "d.html", replace(bare, force=True))


def test_bad_bundles_leave_nothing(tmp_path):
    bundle = made_up_bundle(tmp_path / "out", machine=None)
    with pytest.raises(EdgeError, match="no measurements") as caught:
        write_report([tmp_path / "out"], tmp_path / "r.html")
    assert "veca-edge profile" in caught.value.hint
    measure(bundle)
    measure(bundle, OTHER_MACHINE)
    with pytest.raises(EdgeError, match="2 machines"):
        write_report([tmp_path / "out"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
    files = write_report([tmp_path / "out"], tmp_path / "r.html", ReportOptions(machine="all", pictures=False))
    assert "Other CPU" in files.html.read_text()


def test_the_checkpoint_must_be_the_bundles(real_bundle, data, tmp_path):
    with pytest.raises(EdgeError, match="is not the checkpoint that real was made from") as caught:
        write_report([real_bundle.directory], tmp_path / "r.html", ReportOptions(checkpoint=data / "wide_projected.pt"))
    assert "'square'" in caught.value.hint
    with pytest.raises(EdgeError, match="no file"):
        write_report([real_bundle.directory], tmp_path / "r.html", ReportOptions(checkpoint=tmp_path / "none.pt"))


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_says_which_extra_is_missing(package, tmp_path, monkeypatch):
    made_up_bundle(tmp_path / "out")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=package) as caught:
        write_report([tmp_path / "out"], tmp_path / "r.html")
    assert "veca-edge[report]" in caught.value.hint


# ------------------------------------------------------------------------------------- browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=5000",
)
# In a frame of any width (a window is 500 pixels wide at least): what sticks out of it, and the smallest letters of
# the figures that are shown.
PROBE = """<script>addEventListener("load", () => {
  const letters = [...document.querySelectorAll(".plot svg")].filter(svg => svg.clientWidth).flatMap(svg =>
    [...svg.querySelectorAll("text")].map(t =>
      parseFloat(getComputedStyle(t).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width));
  parent.postMessage(JSON.stringify({width: innerWidth, content: document.documentElement.scrollWidth,
    letters: Math.min(...letters), plots: letters.length}), "*");
})</script>"""
FRAME = """<!DOCTYPE html><script>addEventListener("message", e => { document.title = e.data; })</script>
<iframe src="probed.html" width="%d" height="3000" style="border: 0"></iframe>"""


def browse(page: Path, profile: Path, width: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            browser_path(),
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={width},3000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def test_no_error_on_the_console(full, tmp_path):
    assert "CONSOLE" not in browse(full.html, tmp_path / "profile", 1280).stderr
    broken = tmp_path / "broken.html"
    broken.write_text(full.html.read_text().replace("</main>", '<img src="https://example.org/a.png"></main>'))
    assert "CONSOLE" in browse(broken, tmp_path / "profile", 1280).stderr  # the check can fail


@pytest.mark.parametrize("width", [1280, 390])
def test_readable_at_any_width(full, tmp_path, width):
    text = re.sub(r"<meta http-equiv=.*?>", "", full.html.read_text(), count=1)
    (tmp_path / "probed.html").write_text(text.replace("</head>", PROBE + "</head>"))
    (tmp_path / "frame.html").write_text(FRAME % width)
    dom = browse(tmp_path / "frame.html", tmp_path / "profile", 1400).stdout
    found = json.loads(re.search(r"<title>(\{.*?\})</title>", dom)[1])
    assert found["width"] == width
    assert found["content"] <= width
    assert found["plots"] > 0
    assert found["letters"] >= 11.5


def test_what_could_not_be_measured_is_not_called_faster(tmp_path):
    """Two precisions on a busy machine: the samples say nothing, whichever median is lower."""
    bundle = made_up_bundle(tmp_path / "out", None)
    measure(bundle, details={"rounds": [{"other_load": 0.93}]})
    files = write_report([bundle.directory], tmp_path / "busy.html", ReportOptions())
    for text in (Page(files.html.read_text()).text, files.markdown.read_text()):
        assert "int8 is faster" not in text
        assert "not measurable here" in text
