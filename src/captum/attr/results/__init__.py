"""What can be done with a result: read its leaves, tabulate, draw, write as a page, save."""
