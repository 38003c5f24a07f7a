"""Error rates of groups by hand, the columns that make groups, and what the page says of them. 1 s."""

import pandas as pd
import pytest

from input_pipeline import schema
from input_pipeline.select.examples import Data
from kdfas_jax.metrics import exact, groups
from kdfas_jax.report.sections import groups as section
from kdfas_jax.targets import label
from tests.test_metrics import videos


def rates(found):
    return {
        column: {
            value: {name: of[name] for name in ("counts", "apcer_max", "bpcer") if name in of}
            for value, of in parts.items()
        }
        for column, parts in found.items()
    }


def test_breakdown_by_hand():
    table = videos(live=[0.9, 0.2], print=[0.8, 0.1], mask=[0.1, 0.1])
    columns = pd.DataFrame(
        {"sensor": ["1", "2", "1", "2", "", ""], "medium": ["", "", "a", "a", "b", "b"], "light": [""] * 6}
    )
    found = groups.breakdown(table, columns, 0.5)
    assert rates(found) == {
        "sensor": {
            "1": {"counts": {"videos": 2}, "apcer_max": 1.0, "bpcer": 0.0},
            "2": {"counts": {"videos": 2}, "apcer_max": 0.0, "bpcer": 1.0},
        },
        "medium": {
            "a": {"counts": {"videos": 2}, "apcer_max": 0.5},
            "b": {"counts": {"videos": 2}, "apcer_max": 0.0},
        },
    }
    of = found["medium"]["a"]["exact"]["apcer"]["print"]
    assert (of["errors"], of["attempts"], of["low"], of["high"]) == (1, 2, *exact.interval(1, 2))
    assert set(found["medium"]["a"]["exact"]) == {"apcer"}


def test_the_worst_group_is_compared_with_all():
    """Of 8 live faces 3 are rejected, 2 of them among the 2 of group b; print is the worst species of both groups."""
    table = videos(live=[0.9] * 5 + [0.1] * 3, print=[0.9, 0.1, 0.1, 0.1, 0.1, 0.1], mask=[0.1, 0.1])
    column = pd.DataFrame({"Dark_Skin": [*"aaaaaabb", *"aaabbb", "a", "b"], "light": ["day"] * 16})
    found = groups.compared(groups.breakdown(table, column, 0.5), {"apcer_max": 1 / 6, "bpcer": 3 / 8}, 1)
    assert found == {
        "Dark_Skin": {
            "apcer_max": {"worst": "a", "rate": 1 / 3, "ratio": pytest.approx(2), "smallest": 1},
            "bpcer": {"worst": "b", "rate": 1.0, "ratio": pytest.approx(8 / 3), "smallest": 2},
        }
    }


def test_an_overall_rate_of_0_has_no_ratio():
    table = videos(live=[0.9] * 4, print=[0.1] * 4)
    found = groups.compared(
        groups.breakdown(table, pd.DataFrame({"light": ["a", "b"] * 4}), 0.5), {"apcer_max": 0.0, "bpcer": 0.0}, 1
    )
    assert found["light"]["bpcer"]["ratio"] is None


def test_groups_of_few_attempts_are_not_compared_and_the_largest_of_many_are_kept():
    table = videos(live=[0.9] * 200 + [0.1] * 3, print=[0.1])
    sensor = [str(n % 100) for n in range(200)] + ["a", "a", "b", "a"]
    column = pd.DataFrame({"sensor": sensor, "session": ["1"] * 190 + ["2"] * 13 + ["1"]})
    found = groups.breakdown(table, column, 0.5)
    assert len(found["sensor"]) == groups.MOST
    assert found["sensor"]["a"]["counts"]["videos"] == 3  # the largest
    compared = groups.compared(found, {"apcer_max": 0.0, "bpcer": 3 / 203})
    assert list(compared) == ["session"]  # no camera has ten attempts
    assert (compared["session"]["bpcer"]["worst"], compared["session"]["bpcer"]["smallest"]) == ("2", 13)


def data_of(rows):
    table = pd.DataFrame([dict.fromkeys(schema.COLUMNS, "") | row for row in rows])
    return Data(table.assign(dataset="set", role="test", found=True), [], "", {})


def test_attributes_are_columns_and_unknown_ones_are_left_out():
    rows = [
        {"video": "1", "attributes": schema.attributes({"Male": 1, "Young": 0}), "sensor": "3"},
        {"video": "2", "attributes": schema.attributes({"Male": 0})},
        {"video": "3"},
    ]
    data = data_of(rows)
    found = label.groups(data.table.iloc[[2, 0, 1]], data)
    assert found.index.tolist() == [2, 0, 1]
    assert found["Male"].tolist() == ["", "1", "0"]
    assert found["Young"].tolist() == ["", "0", ""]
    assert found["sensor"].tolist() == ["", "3", ""]
    assert set(found) == {*label.GROUPS, "Male", "Young"}
    assert list(label.groups(data.table[2:], data)) == label.GROUPS


def test_the_page_lists_the_worst_groups_and_the_largest_of_many():
    table = videos(live=[0.9] * 5 + [0.1] * 3, print=[0.9] + [0.1] * 5)
    column = pd.DataFrame({"Dark_Skin": [*"11111100", *"111000"], "session": [str(n) for n in range(1, 14)] + ["1"]})
    breakdown = groups.breakdown(table, column, 0.5)
    compared = groups.compared(breakdown, {"apcer_max": 1 / 6, "bpcer": 3 / 8}, 1)
    results = {"config": {"data": {"dataset": "set"}}, "test": {"breakdown": breakdown, "groups": compared}}
    worst, columns = section.by_group(results).parts
    low, high = exact.interval(2, 2)
    assert worst.rows[1] == (
        "Dark Skin", "BPCER", "no", "2 of 2", f"{100 * low:.1f} to {100 * high:.1f}", "x 2.67", "2",
    )  # fmt: skip
    skin, session = columns.parts
    assert [row[0] for row in skin.rows] == ["no", "yes"]
    assert skin.rows[1][2].words.startswith("1 of 6; ")
    assert len(session.rows) == 13
    many = {"session": {str(n): breakdown["Dark_Skin"]["1"] for n in range(40)}}
    (columns,) = section.by_group({**results, "test": {"breakdown": many}}).parts
    assert (len(columns.parts[0].rows), columns.parts[0].title[:21]) == (section.MOST, "The 16 largest of 40 ")
    assert section.by_group({**results, "test": {}}) is None
