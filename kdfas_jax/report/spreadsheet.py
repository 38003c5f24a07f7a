"""Protection against CSV injection: a spreadsheet would run a file name such as `=HYPERLINK(...)` as a formula.

An apostrophe before such a text makes a spreadsheet show it (OWASP, CSV Injection); quotes around it do not.
"""

import re
from collections.abc import Callable

import pandas as pd

# The start of a formula, after any apostrophes. Spreadsheets in some languages also accept the full-width signs.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def neutralised(table: pd.DataFrame) -> pd.DataFrame:
    """Returns `table` with an apostrophe before each text that a spreadsheet would run; numbers are unchanged."""
    return _mapped(table, lambda text: f"'{text}" if FORMULA.match(text) else text)


def exact(table: pd.DataFrame) -> pd.DataFrame:
    """Inverse of `neutralised`."""
    return _mapped(table, lambda text: text[1:] if text[:1] == "'" and FORMULA.match(text) else text)


def _mapped(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    texts = {
        name: column.map(lambda value: change(value) if isinstance(value, str) else value)
        for name, column in table.items()
        if not pd.api.types.is_numeric_dtype(column)
    }
    return table.assign(**texts)
