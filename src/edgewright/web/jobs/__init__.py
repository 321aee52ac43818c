"""Jobs started from a page: the queue, kinds of jobs, and the files that forms offer."""
