"""The report: one HTML page that needs nothing else, and the figures as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.study import report_tables
from lab.study.assumptions import assumptions_of
from lab.study.capacity import carried
from lab.study.findings import Results
from lab.study.report_figures import ExperimentFigures
from lab.study.report_page import Page


def write_report(folder: Path) -> Path:
    """Draw the figures of results and write the page; returns its path.

    Args:
        folder: of the results.

    Raises:
        StudyResultError: it holds none.
    """
    results = Results(folder)
    findings: list[dict[str, Any]] = []
    page = _page(results, folder / "figures", findings)
    path = folder / "report.html"
    path.write_text(page.html(), encoding="utf-8")
    text = json.dumps(findings, indent=1, sort_keys=True) + "\n"
    (folder / "findings.json").write_text(text, encoding="utf-8")
    return path


def _page(results: Results, figures: Path, findings: list[dict[str, Any]]) -> Page:
    study = results.study
    page = Page(study.title or f"Latency study: {study.name}", study.question)
    page.section("What the times stand on")
    page.add(
        "<p>No measured times of the real network are public. A time below is no better than "
        "what it is made from.</p>"
    )
    page.add(assumptions_of(study))
    page.section("Which route meets which deadline")
    page.add(report_tables.deadlines(results, findings))
    for experiment in study.experiments:
        if results.groups(experiment.name):
            page.section(experiment.title or experiment.name)
            ExperimentFigures(results, experiment, page, figures, findings).draw()
    for heading, text in (
        ("What each change would buy", report_tables.changes(results, findings)),
        ("What the shared parts carry", carried(results, findings)),
        ("What it costs", report_tables.costs(results)),
        ("How this was made", report_tables.manifest(results)),
    ):
        if text:
            page.section(heading)
            page.add(text)
    return page
