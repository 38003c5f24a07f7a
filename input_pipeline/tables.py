"""CSV text of tables whose cells, such as the names of files, folders and people, may contain any character."""

import csv
import re

import pandas as pd

# Characters, besides \n, that readers of CSV files and text editors take for the end of a line. pandas writes with
# Python's csv module, which before Python 3.13 quotes only \n, and pandas reads a bare \r as the end of a row.
BREAKS = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def to_csv(table: pd.DataFrame, *, header: bool = True) -> str:
    """Returns `table`, without its index, as CSV text in which a line break within a cell does not start a row.

    A table with such a line break has all its texts quoted; any other table is written as pandas writes it.
    """
    text = table.to_csv(index=False, header=header)
    return table.to_csv(index=False, header=header, quoting=csv.QUOTE_NONNUMERIC) if BREAKS.search(text) else text
