"""CSV text of tables with names from outside: those of files, folders and people may hold anything."""

import csv
import re

import pandas as pd

# What readers of CSV files and text editors take for the end of a line. pandas writes by Python's csv module, which
# quotes \n alone before Python 3.13, and reads a bare \r as the end of a row.
BREAKS = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def to_csv(table: pd.DataFrame, *, header: bool = True) -> str:
    """Returns `table`, without its index, as CSV text in which a line break within a cell begins no row.

    A table with such a line break has all its texts quoted; any other is exactly what pandas writes.
    """
    text = table.to_csv(index=False, header=header)
    return table.to_csv(index=False, header=header, quoting=csv.QUOTE_NONNUMERIC) if BREAKS.search(text) else text
