"""Bars as SVG: a panel for each row, a bar for each server, on a logarithmic scale."""

import math
from xml.sax.saxutils import escape

import report
from subjects import BOUND, OURS

PANEL_WIDTH, BAR, GAP, LABELS, VALUES = 470, 20, 7, 150, 96
TITLE, PANEL_TITLE, AXIS, MARGIN = 64, 26, 24, 20
COLOURS = {"ours": "#1f6feb", "peer": "#57606a", "not durable": "#d0a215", "bound": "#d0d7de"}
MEANINGS = {
    "ours": "MaiRust",
    "peer": "syncs before its reply",
    "not durable": "does not sync before its reply",
    "bound": "stores nothing",
}


def figures(results, cells):
    """File names and their content."""
    servers = results["servers"]
    rows = list(dict.fromkeys(cell.row for cell in cells))

    def panels(bar):
        """A title and bars for each row; `bar` makes of a summary its low, middle and high value."""
        for row in rows:
            measured = [(cell, cell.summary()) for cell in cells if cell.row == row]
            yield (
                row.title,
                [
                    (servers[cell.name]["title"], kind(cell.name, servers), bar(summary))
                    for cell, summary in measured
                    if summary
                ],
            )

    def rate(summary):
        return summary["slowest_round"], summary["messages_per_second"], summary["fastest_round"]

    def cpu(summary):
        return (sum(summary["cpu_seconds_per_1000"].values()),) * 3

    return {
        "messages.svg": draw(
            "Accepted messages a second (more is better; line: slowest to fastest round)", panels(rate)
        ),
        "cpu.svg": draw("Processor seconds for 1,000 messages (less is better)", panels(cpu)),
    }


def kind(name, servers):
    if name in OURS:
        return "ours"
    if name == BOUND:
        return "bound"
    return "peer" if report.durable(servers[name]) else "not durable"


def draw(title, panels):
    panels = [panel for panel in panels if panel[1]]
    values = [max(value, 1e-3) for _, bars in panels for _, _, low_to_high in bars for value in low_to_high]
    low = math.floor(math.log10(min(values, default=1)))
    high = max(math.ceil(math.log10(max(values, default=1))), low + 1)
    heights = [PANEL_TITLE + len(bars) * (BAR + GAP) + AXIS for _, bars in panels]
    tallest = max(heights, default=0)
    width = 2 * PANEL_WIDTH + 3 * MARGIN
    height = TITLE + math.ceil(len(panels) / 2) * (tallest + MARGIN) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1f2328">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="26" font-size="17" font-weight="600">{escape(title)}</text>',
        *legend({kind for _, bars in panels for _, kind, _ in bars}),
    ]
    for index, (name, bars) in enumerate(panels):
        left = MARGIN + (index % 2) * (PANEL_WIDTH + MARGIN)
        top = TITLE + (index // 2) * (tallest + MARGIN)
        parts += [f'<g transform="translate({left} {top})">', *panel(name, bars, low, high), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def legend(kinds):
    x = MARGIN
    for kind, colour in COLOURS.items():
        if kind in kinds:
            yield f'<rect x="{x}" y="39" width="13" height="13" fill="{colour}"/>'
            yield f'<text x="{x + 19}" y="50">{MEANINGS[kind]}</text>'
            x += 45 + 7 * len(MEANINGS[kind])


def panel(name, bars, low, high):
    """One row; `low` and `high` are the powers of ten at both ends of the axis."""
    span = PANEL_WIDTH - LABELS - VALUES
    bottom = PANEL_TITLE + len(bars) * (BAR + GAP)

    def x(value):
        return LABELS + (math.log10(max(value, 10.0**low)) - low) / (high - low) * span

    yield f'<text x="0" y="16" font-weight="600">{escape(name)}</text>'
    for power in range(low, high + 1):
        at, label = f"{x(10.0**power):.1f}", power_label(power)
        yield f'<line x1="{at}" x2="{at}" y1="{PANEL_TITLE}" y2="{bottom}" stroke="#d8dee4"/>'
        yield f'<text x="{at}" y="{bottom + 15}" font-size="11" text-anchor="middle">{label}</text>'
    for index, (label, kind, (least, middle, most)) in enumerate(bars):
        y = PANEL_TITLE + index * (BAR + GAP)
        centre = y + BAR / 2
        yield f'<text x="{LABELS - 8}" y="{centre + 4.5:.1f}" text-anchor="end">{escape(label)}</text>'
        yield f'<rect x="{LABELS}" y="{y}" width="{x(middle) - LABELS:.1f}" height="{BAR}" fill="{COLOURS[kind]}"/>'
        if most > least:
            ends = f'x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{centre}" y2="{centre}"'
            yield f'<line {ends} stroke="#1f2328" stroke-width="1.5"/>'
        yield f'<text x="{x(most) + 6:.1f}" y="{centre + 4.5:.1f}">{value_label(middle)}</text>'


def power_label(power):
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def value_label(value):
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"
