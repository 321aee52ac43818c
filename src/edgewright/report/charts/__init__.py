"""SVG drawn from numbers: no script, the same in a page and in a report, each with a title and a description."""
