"""Pages about runs, comparisons and searches, and the table of results."""
