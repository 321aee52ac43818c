"""Work started from a page: the queue, kinds of jobs, files on offer, deletion with undo."""
