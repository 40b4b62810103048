"""What was measured, as text for a terminal, as Markdown, and as SVG."""

import dataclasses
import html
import re

import statistic


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender in one job; what could not be measured is None, and `missing` says why there is nothing at all."""

    name: str
    way: str
    cpu_micros: statistic.Spread | None = None
    per_second: statistic.Spread | None = None
    latencies: tuple = (None, None, None)
    resident: int | None = None
    missing: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """One job. `rate`: the requests a second at which latencies were taken; 0 where they were not."""

    key: str
    title: str
    unit: str
    rate: float
    rows: list


def count(value):
    return "–" if value is None else f"{value:,.0f}"


def spread(value):
    if value is None:
        return "–"
    digits = 0 if value.most >= 1000 else 1
    return f"{value.median:,.{digits}f} ({value.least:,.{digits}f}–{value.most:,.{digits}f})"


def head(table):
    per = f"CPU µs a {table.unit}"
    return ["", "how", per, f"{table.unit}s a second" if table.unit != "MB" else "MB a second", "p50 µs", "p99 µs", "p99.9 µs", "resident MiB"]


def cells(row):
    if row.missing:
        return [row.name, row.missing, *["–"] * 6]
    resident = "–" if row.resident is None else f"{row.resident / 2**20:,.1f}"
    return [row.name, row.way, spread(row.cpu_micros), spread(row.per_second), *(count(value) for value in row.latencies), resident]


def condition(table):
    return f"latencies at {table.rate:,.0f} {table.unit}s a second" if table.rate else "no latencies"


def text(table):
    """Aligned columns: words to the left, figures to the right."""
    lines = [head(table), *(cells(row) for row in table.rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    body = ("  ".join(cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths))) for line in lines)
    return f"{table.title}; {condition(table)}\n" + "\n".join(line.rstrip() for line in body) + "\n"


def markdown(table):
    lines = [head(table), ["---", "---", *["---:"] * 6], *(cells(row) for row in table.rows)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {table.title}\n\n{condition(table).capitalize()}.\n\n{body}\n"


BAR, GAP, LEFT, WIDTH, TOP = 22, 8, 330, 420, 56


def svg(table, note):
    """Bars of CPU time, the best first; a line across each end shows the spread of the rounds."""
    rows = sorted((row for row in table.rows if row.cpu_micros), key=lambda row: row.cpu_micros.median)
    most = max((row.cpu_micros.most for row in rows), default=1)
    height = TOP + len(rows) * (BAR + GAP) + 44
    total = LEFT + WIDTH + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{html.escape(table.title)}: CPU µs a {table.unit}</title>",
        f'<rect width="{total}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="16" font-weight="600" fill="#1a1a1a">{html.escape(table.title)}</text>',
        f'<text x="12" y="43" fill="#555555">CPU µs a {table.unit}, user and system, all processes; shorter is better</text>',
    ]
    for at, row in enumerate(rows):
        y = TOP + at * (BAR + GAP)
        middle = y + BAR / 2
        end, least, most_at = (LEFT + value / most * WIDTH for value in (row.cpu_micros.median, row.cpu_micros.least, row.cpu_micros.most))
        colour, weight = ("#1f6feb", 600) if row.name == "vestibule" else ("#b3bac5", 400)
        label = row.name + (f" · {re.split('[;:,]', row.way)[0]}" if row.way else "")
        parts += [
            f'<text x="{LEFT - 10}" y="{middle + 4.5:.1f}" text-anchor="end" font-weight="{weight}" fill="#1a1a1a">{html.escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            f'<path d="M{least:.1f} {middle:.1f}H{most_at:.1f}M{least:.1f} {middle - 4:.1f}v8M{most_at:.1f} {middle - 4:.1f}v8" stroke="#333333" fill="none"/>',
            f'<text x="{most_at + 8:.1f}" y="{middle + 4.5:.1f}" fill="#1a1a1a">{row.cpu_micros.median:,.1f}</text>',
        ]
    machine, _, conditions = note.partition("; others")
    for line, y in [(machine, height - 26), (f"others{conditions}" if conditions else "", height - 10)]:
        parts.append(f'<text x="12" y="{y}" font-size="11" fill="#777777">{html.escape(line)}</text>')
    parts += ["</svg>", ""]
    return "\n".join(parts)
