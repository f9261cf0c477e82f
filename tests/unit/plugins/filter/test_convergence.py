# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""The convergence filter, and the report page it is made for, rendered by Ansible."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree, html

from ansible_collections.opennebula.flower.plugins.filter.convergence import FilterModule, convergence

REPOSITORY = Path(__file__).resolve().parents[4]


def history_of(*rows: tuple) -> list[dict]:
    """Return rounds with these losses, accuracies, seconds and nodes; None stands for a metric that was not measured."""
    return [
        {"round": number, "seconds": seconds, "nodes": nodes, "metrics": {k: v for k, v in (("loss", loss), ("accuracy", accuracy)) if v is not None}}
        for number, loss, accuracy, seconds, nodes in rows
    ]


HISTORY = history_of((1, 0.1842, 0.9415, 9.7, 2), (2, 0.1019, 0.9777, 11.7, 2), (3, 0.0909, 0.9777, 13.2, 3))


def draw(history: list, metric: str = "accuracy") -> etree._Element:
    return etree.fromstring(convergence(history, metric))


def heights(chart: etree._Element) -> list[float]:
    return [float(dot.get("cy")) for dot in chart.iter("circle")]


def texts(chart: etree._Element) -> list[str]:
    return [text.text for text in chart.iter("text")]


def test_the_filter_has_its_documented_name() -> None:
    assert FilterModule().filters() == {"convergence": convergence}


def test_a_better_value_is_drawn_higher() -> None:
    first, second, third = heights(draw(HISTORY))
    assert first > second == third  # SVG counts from the top


def test_loss_is_drawn_falling() -> None:
    first, second, third = heights(draw(HISTORY, "loss"))
    assert first < second < third


def test_each_round_is_named_on_the_axis_and_in_a_tooltip() -> None:
    chart = draw(HISTORY)
    assert {"1", "2", "3", "round"} <= set(texts(chart))
    assert [title.text for title in chart.iter("title")] == ["round 1: 0.9415", "round 2: 0.9777", "round 3: 0.9777"]


def test_the_last_value_is_written_out() -> None:
    assert "0.9777" in texts(draw(HISTORY))


@pytest.mark.parametrize("history", [history_of((1, 0.5, 0.9, 1.0, 2)), HISTORY, history_of(*((n, 2.5 / n, 1 - 1 / (n + 1), 1.0, 2) for n in range(1, 501)))])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_everything_stays_inside_the_picture(history: list, metric: str) -> None:
    chart = draw(history, metric)
    _left, _top, width, height = (float(number) for number in chart.get("viewBox").split())
    for path in chart.iter("path"):
        for x, y in re.findall(r"([-\d.]+),([-\d.]+)", path.get("d")):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height
    assert len(list(chart.iter("text"))) < 25


def test_a_value_that_was_not_measured_leaves_a_gap() -> None:
    chart = draw(history_of((1, 0.5, 0.5, 1.0, 2), (2, None, None, 1.0, 2), (3, 0.4, 0.6, 1.0, 2)))
    assert len(list(chart.iter("circle"))) == 2
    assert len([path for path in chart.iter("path") if path.get("stroke")]) == 2


@pytest.mark.parametrize("value", [0.0, 1.0, 0.25])
def test_values_that_never_change_can_be_drawn(value: float) -> None:
    history = history_of((1, value, value, 1.0, 2), (2, value, value, 1.0, 2))
    assert len(set(heights(draw(history)))) == len(set(heights(draw(history, "loss")))) == 1


def test_no_round_at_all_says_so() -> None:
    assert "No accuracy was measured" in convergence([])
    assert "No accuracy was measured" in convergence(history_of((1, "NaN", "NaN", 1.0, 2), (2, "Infinity", "-Infinity", 1.0, 2)))


@pytest.mark.parametrize(("values", "highest"), [((0.7, 0.8, 0.85), "1"), ((40.5, 21.25, 12.5), "50")])
def test_any_metric_is_drawn_and_a_share_ends_at_1(values: tuple, highest: str) -> None:
    chart = draw([{"round": number, "metrics": {"auc": value}} for number, value in enumerate(values, 1)], "auc")
    assert len(heights(chart)) == 3
    assert highest in texts(chart)


def test_the_name_of_a_metric_is_no_markup() -> None:
    assert "No &lt;b&gt; was measured" in convergence(HISTORY, "<b>")


NO_ROUNDS = [{}, "abc", None, [1, 2], {"round": 1}, {"round": "x", "metrics": {}}, {"round": 1, "metrics": {"accuracy": "<b>"}}, {"round": 1, "metrics": []}]


@pytest.mark.parametrize("row", NO_ROUNDS)
def test_a_history_that_is_none_is_refused(row: object) -> None:
    with pytest.raises(AnsibleFilterError, match="convergence needs rounds with round and metrics"):
        convergence([row])


def render(directory: Path, report: dict) -> html.HtmlElement:
    """Render the template as a playbook does."""
    template = REPOSITORY / "playbooks" / "templates" / "report.html.j2"
    page = directory / "index.html"
    (directory / "vars.json").write_text(json.dumps({"report": report}))
    ansible = Path(sys.executable).with_name("ansible")
    command = [ansible, "localhost", "-c", "local", "-m", "ansible.builtin.template", "-a", f"src={template} dest={page}"]
    result = subprocess.run(
        [*command, "-e", f"@{directory / 'vars.json'}", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return html.document_fromstring(page.read_text())


REPORT = {
    "title": "Digits <script>alert(1)</script> & 'more'",
    "generated": "2026-11-22 00:30:00 UTC",
    "metrics": {"accuracy": 0.9777},
    "rounds": 3,
    "nodes": 3,
    "seconds": 34.65,
    "facts": {"Strategy": "FedAvg", '<b>"odd"</b>': "<img src=x onerror=alert(1)>", "TLS": True, "Number": 0},
    "history": HISTORY,
    "files": [{"name": "model.npz", "path": "/srv/report/odd <run>/model.npz", "size": 1234, "sha256": "ab" * 32}],
    "files_missing": "",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> html.HtmlElement:
    return render(tmp_path_factory.mktemp("report"), REPORT)


def test_the_page_shows_result_curves_and_rounds(page: html.HtmlElement) -> None:
    assert page.xpath("//div[@class='results']//strong/text()") == ["0.9777", "–", "3", "3", "35 s"]
    assert len(page.xpath("//svg")) == 2
    rows = page.xpath("//table[@class='rounds']/tbody/tr")
    assert [cell.text for cell in rows[0]] == ["1", "0.9415", "0.1842", "9.7", "2"]
    assert len(rows) == 3


def test_any_text_is_shown_as_it_is_and_never_run(page: html.HtmlElement) -> None:
    assert page.xpath("//h1")[0].text == "Digits <script>alert(1)</script> & 'more'"
    facts = {row[0].text: row[1].text for row in page.xpath("//section[h2='Federation']//tr")}
    assert facts == {"Strategy": "FedAvg", '<b>"odd"</b>': "<img src=x onerror=alert(1)>", "TLS": "True", "Number": "0"}
    assert not page.xpath("//script | //img | //b")


def test_the_page_names_the_model_with_size_and_checksum(page: html.HtmlElement) -> None:
    (row,) = page.xpath("//section[h2='Files']//tr")
    assert row.text_content().split() == ["model.npz1.21", "KB" + "ab" * 32]


def test_the_page_says_why_the_model_is_missing(tmp_path: Path) -> None:
    report = {"title": "t", "facts": {}, "history": [], "files": [], "files_missing": "The port cannot be reached."}
    page = render(tmp_path, {"metrics": {}, "rounds": 0, "nodes": 0, "seconds": None, "generated": "", **report})
    assert page.xpath("//section[h2='Files']/p/text()") == ["The port cannot be reached."]


def test_the_page_needs_nothing_but_itself(page: html.HtmlElement) -> None:
    assert not page.xpath("//@src | //link | //iframe")
    assert page.xpath("//@href") == ["odd%20%3Crun%3E/model.npz"]
    assert "url(" not in page.xpath("string(//style)")
    assert "@import" not in page.xpath("string(//style)")


FIGURES = st.none() | st.floats() | st.sampled_from(["NaN", "Infinity", "-Infinity", 1.7e308, -1.7e308, 5e-324])


@given(st.lists(st.tuples(st.integers(0, 2**53), FIGURES, FIGURES, st.none(), st.integers(0, 9)), max_size=6), st.sampled_from(["accuracy", "loss"]))
def test_any_figures_make_a_chart_of_finite_places(rounds: list, metric: str) -> None:
    chart = convergence(history_of(*sorted(rounds, key=lambda row: row[0])), metric)
    etree.fromstring(chart)
    assert not re.search(r'="(nan|-?inf)', chart)


def test_figures_that_are_no_numbers_stand_in_the_report_as_such(tmp_path: Path) -> None:
    history = history_of((1, "NaN", 0.5, 1.0, 2), (2, "Infinity", "-Infinity", 1.0, 2))
    page = render(tmp_path, {**REPORT, "metrics": {"accuracy": "-Infinity"}, "history": history})
    assert page.xpath("//div[@class='results']//strong/text()")[0] == "-Infinity"
    assert [[cell.text for cell in row][1:3] for row in page.xpath("//table[@class='rounds']/tbody/tr")] == [["0.5000", "NaN"], ["-Infinity", "Infinity"]]


def test_every_metric_has_its_curve_its_column_and_its_last_value(tmp_path: Path) -> None:
    history = history_of((1, 0.5, 0.9, 1.0, 2), (2, 0.25, 0.95, 1.0, 2))
    history[1]["metrics"] |= {"auc": 0.97, "perplexity": "NaN"}
    page = render(tmp_path, {**REPORT, "metrics": history[1]["metrics"], "history": history})
    assert [heading.text for heading in page.xpath("//div[@class='curves'][1]//h2")] == [
        f"{name} on held-out data" for name in ("Accuracy", "Loss", "auc", "perplexity")
    ]
    assert len(page.xpath("//svg")) == 3
    assert "No perplexity was measured that can be drawn." in page.xpath("//p[@class='empty']/text()")
    assert page.xpath("//div[@class='results']//strong/text()")[:4] == ["0.9500", "0.2500", "0.9700", "NaN"]
    assert page.xpath("//table[@class='rounds']/thead//th/text()") == ["Round", "Accuracy", "Loss", "auc", "perplexity", "Seconds", "Nodes"]
    assert [cell.text for cell in page.xpath("//table[@class='rounds']/tbody/tr[1]/td")] == ["1", "0.9000", "0.5000", "–", "–", "1.0", "2"]
