"""SVG charts for pages and reports, each with a title and a description."""
