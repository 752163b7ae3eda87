"""Columns of text that fit the screen.

One idea: numbers keep their width, and names are shortened. When names have no room left, columns are
dropped, the least important first, so a narrow screen loses context but no digits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

#: Blanks between two columns.
GAP = 2
#: Least width of a flexible column; what still does not fit is cut at the edge of the screen.
_LEAST = 6


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a grid.

    Attributes:
        head: heading.
        right: align to the right.
        flexible: width to which cells may be cut, and further once no column is left to drop; 0 for never.
        goes: order in which columns are dropped, lowest first; 0 for never.
    """

    head: str
    right: bool = False
    flexible: int = 0
    goes: int = 0


def draw_grid(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> Iterator[Text]:
    """Yield the lines of a grid, headings first; a cell may have several lines."""
    natural = [
        max(len(column.head), *(line.cell_len for row in rows for line in row[place].split("\n")), 0)
        for place, column in enumerate(columns)
    ]
    shown = _choose(columns, natural, width)
    widths = _shrink(columns, natural, shown, width)
    yield _draw_line(columns, [Text(column.head, style="dim") for column in columns], shown, widths)
    for row in rows:
        cells = [list(cell.split("\n")) or [Text()] for cell in row]
        for number in range(max(len(cells[place]) for place in shown)):
            line = [cell[number] if number < len(cell) else Text() for cell in cells]
            yield _draw_line(columns, line, shown, widths)


def draw_number(value: int, style: str = "", mark: str = "") -> Text:
    """Return a number with thousands separators; zero is dim."""
    text = Text(f"{value:,}", style=style if value else "dim")
    text.append(mark, "yellow")
    return text


def _choose(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return the positions of the columns that fit."""
    shown = list(range(len(columns)))

    def wanted() -> int:
        enough = (min(natural[place], columns[place].flexible or natural[place]) for place in shown)
        return sum(enough) + GAP * (len(shown) - 1)

    for place in sorted(
        (place for place in shown if columns[place].goes), key=lambda place: columns[place].goes
    ):
        if wanted() <= width:
            break
        shown.remove(place)
    return shown


def _shrink(
    columns: Sequence[Column], natural: Sequence[int], shown: Sequence[int], width: int
) -> dict[int, int]:
    """Return the width of each column, shortening the widest names first."""
    widths = {place: natural[place] for place in shown}
    names = [place for place in shown if columns[place].flexible]
    over = sum(widths.values()) + GAP * (len(shown) - 1) - width
    while over > 0 and names:
        widest = max(names, key=lambda place: widths[place])
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
        over -= 1
    return widths


def _draw_line(
    columns: Sequence[Column], cells: Sequence[Text], shown: Sequence[int], widths: dict[int, int]
) -> Text:
    line = Text()
    for place in shown:
        cell = cells[place].copy()
        cell.truncate(widths[place], overflow="ellipsis")
        blank = " " * (widths[place] - cell.cell_len)
        line.append_text(Text(blank) + cell if columns[place].right else cell + Text(blank))
        line.append(" " * GAP)
    line.rstrip()
    return line
