"""Texts of CSV files that people open in a spreadsheet, which would run a file's name such as `=HYPERLINK(...)`.

An apostrophe before such a text makes a spreadsheet show it [S, OWASP: CSV Injection]; quotes around it do not.
"""

import re
from collections.abc import Callable

import pandas as pd

# How formulas begin, after apostrophes that stand there already. Full-width signs count in some languages.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def neutralised(table: pd.DataFrame) -> pd.DataFrame:
    """Returns `table` with an apostrophe before each text that a spreadsheet would run; numbers stay as they are."""
    return _mapped(table, lambda text: f"'{text}" if FORMULA.match(text) else text)


def exact(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table of which `neutralised` made `table`."""
    return _mapped(table, lambda text: text[1:] if text[:1] == "'" and FORMULA.match(text) else text)


def _mapped(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    texts = {
        name: column.map(lambda value: change(value) if isinstance(value, str) else value)
        for name, column in table.items()
        if not pd.api.types.is_numeric_dtype(column)
    }
    return table.assign(**texts)
