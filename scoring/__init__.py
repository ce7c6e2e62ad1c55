"""From files, folders and streams to a line of results for each: the parts of score.py."""
