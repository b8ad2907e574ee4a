"""Everybody can use the page: every view by the rules of WCAG 2.2 AA, at every width, in the dark, and by keyboard."""

from __future__ import annotations

import pytest

from .conftest import CORES

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'veca-edge[web]'")

WIDTHS = (390, 1920)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# What is right is counted alone: as a whole it takes longer to hand over than to find.
AXE = """async (rules) => {
  const { passes, violations } = await axe.run(document, { runOnly: rules, resultTypes: ["violations"] });
  return [passes.length, violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])];
}"""
FOCUS = """() => {
  const { id, href } = document.activeElement;
  const seen = id === "file" ? document.activeElement.nextElementSibling : document.activeElement;
  return [id || href || "", getComputedStyle(seen).outlineStyle !== "none"];
}"""


def assert_usable(page, view: str) -> None:
    """At every width and in both schemes: nothing is cut off, and no rule is broken."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            where = f"{view}, {width} px, {scheme}"
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), f"{where} is cut off"
            right, wrong = page.evaluate(AXE, RULES)
            assert right > 10
            assert wrong == [], where


def test_every_view_can_be_used_by_everybody(opened, web_modules, picture):
    page = opened.page
    page.evaluate((web_modules / "node_modules/axe-core/axe.min.js").read_text())
    assert_usable(page, "start")
    opened.take_steps()
    opened.next_step(lambda: opened.choose_file(picture))
    for show, shown in (("segmentation", "#legend li"), ("depth", "#far:not(:empty)"), ("pca", "#classes li")):
        page.select_option("#show", show)
        page.wait_for_selector(shown)
        assert_usable(page, show)
    page.fill("#budget", "-1")
    page.check("#hold")
    page.wait_for_selector("#alert:not([hidden])")
    assert_usable(page, "a failure")
    page.fill("#budget", "0.01")
    page.dispatch_event("#budget", "change")
    page.click("#camera")
    page.wait_for_selector("#decision:not(:empty)")
    assert_usable(page, "a budget")


def test_every_control_is_reached_and_used_by_the_keyboard(opened):
    """In the order in which they are seen, each with a ring around it."""
    page = opened.page
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        name, has_ring = page.evaluate(FOCUS)
        if name == "" or name in reached:
            break
        assert has_ring, name
        reached.append(name)
    controls = ["camera", "file", "show", "cores", "precision", "hold", "budget", "hold-frame", "frame-budget"]
    assert reached[:-1] == controls
    assert reached[-1].endswith("licenses.txt")
    page.focus("#cores")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f"#cores-shown:text-is('{CORES[0]}')")
    page.focus("#show")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#show") == "depth"
    page.focus("#camera")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hint", state="hidden")
    page.focus("#hold")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.01")
    page.keyboard.press("Tab")
    page.wait_for_selector("#decision:not(:empty)")
    page.focus("#stop")
    page.keyboard.press("Enter")
    assert page.is_disabled("#stop")
