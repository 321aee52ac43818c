"""Help texts: options in sections, examples, and the manual page."""
