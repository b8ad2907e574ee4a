"""The report on one or more bundles: one self-contained HTML file, and the same numbers as Markdown."""

from __future__ import annotations

from .write import ReportFiles, ReportOptions, write_report

__all__ = ["ReportFiles", "ReportOptions", "write_report"]
