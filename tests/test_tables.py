"""CSV files that carry names from outside: line breaks, and texts that a spreadsheet would run. 1 s."""

import csv
import io

import pandas as pd
import pytest

from input_pipeline import tables
from kdfas_jax.report import spreadsheet

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'=1",
    "''@x",
    "a\rforged,1,live",
    "a\r\nb",
    "Icon\r",
    "a\u2028b",
    'say "it", twice',
    "plain",
    "it's",
    "'",
    "",
]


def test_a_line_break_in_a_name_begins_no_row():
    """Read by pandas, which takes a bare carriage return for the end of a row, and by Python's own reader."""
    table = pd.DataFrame({"name": HOSTILE, "score": 0.25, "number": range(len(HOSTILE))})
    text = tables.to_csv(table)
    pd.testing.assert_frame_equal(
        pd.read_csv(io.BytesIO(text.encode()), keep_default_na=False), table, check_dtype=False
    )
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in rows[1:]] == HOSTILE


def test_ordinary_tables_are_as_pandas_writes_them():
    """So that the fingerprint of records, which is of these bytes, stays."""
    table = pd.DataFrame({"name": ["a,b", "c"], "score": [0.5, float("nan")]})
    assert tables.to_csv(table) == table.to_csv(index=False)
    assert tables.to_csv(table, header=False) == table.to_csv(index=False, header=False)


def test_a_spreadsheet_runs_no_text_and_numbers_stay():
    table = pd.DataFrame({"name": HOSTILE, "x": -1.5})
    neutral = spreadsheet.neutralised(table)
    assert not neutral["name"].str.match("[=+@\t\r\n＝-]").any()
    assert neutral["x"].tolist() == table["x"].tolist()
    assert dict(zip(HOSTILE, neutral["name"], strict=True))["=1+1"] == "'=1+1"
    untouched = ["a\rforged,1,live", "Icon\r", "plain", "it's", "'", ""]
    assert neutral.loc[neutral["name"].isin(untouched), "name"].tolist() == [n for n in HOSTILE if n in untouched]


@pytest.mark.parametrize("dtype", ["str", "object"])
def test_neutralised_tables_can_be_read_back(dtype):
    table = pd.DataFrame({"name": HOSTILE, "x": -1.5}).astype({"name": dtype})
    pd.testing.assert_frame_equal(spreadsheet.exact(spreadsheet.neutralised(table)), table, check_dtype=False)
