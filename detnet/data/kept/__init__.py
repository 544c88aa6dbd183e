"""What was read of a large annotation file, kept in columns that all processes map."""
