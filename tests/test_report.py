"""The tables of README, docs and cards are those of the kept scores, by the weights that are shipped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import report


@pytest.fixture(scope="module")
def documents() -> dict[Path, str]:
    return report.documents()


def test_every_table_is_what_the_scores_say(documents: dict[Path, str]) -> None:
    stale = [path.name for path, text in documents.items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "python scripts/report.py writes them anew"


def test_every_table_is_somewhere(documents: dict[Path, str]) -> None:
    text = "".join(documents.values())
    assert [name for name in report.TABLES if f"<!-- table: {name} -->" not in text] == []


def test_every_model_has_every_score() -> None:
    for run in report.RUNS:
        rows = report.kept(run)
        counts = {
            (name, sigma): sum(row["method"] == name and row["sigma"] == sigma for row in rows)
            for name in report.models_for(run)
            for sigma in report.SIGMAS
        }
        assert set(counts.values()) == {18 if run.color else 12}


def test_two_draws_of_the_noise_agree() -> None:
    first, second = report.kept(report.GREY), report.kept(report.AGAIN)
    for name in report.models_for(report.AGAIN):
        for sigma in report.SIGMAS:
            assert report.mean(first, name, sigma) == pytest.approx(report.mean(second, name, sigma), abs=0.025)


def test_scores_of_other_weights_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = report.read(report.SCORES / "set12.json")
    for row in scores["scores"]:
        if row["method"] == "gray" and row["sigma"] == 25.0:
            row["weights"] = "of old"
    monkeypatch.setattr(report, "read", lambda path: scores)
    monkeypatch.setattr(report, "models_for", lambda run: ["gray", "gray-fast"])
    kept: list[dict[str, Any]] = report.kept(report.GREY)
    assert {row["sigma"] for row in kept if row["method"] == "gray"} == {15.0, 50.0}
    assert {row["sigma"] for row in kept if row["method"] == "gray-fast"} == {15.0, 25.0, 50.0}


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(SystemExit, match="asks for a table 'no such'"):
        report.filled("<!-- table: no such -->\n<!-- end -->\n", "x.md")
