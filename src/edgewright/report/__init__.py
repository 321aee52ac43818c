"""Charts and number formats of pages and reports."""
