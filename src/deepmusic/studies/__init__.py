"""Models to be compared with, and the tables that compare them."""
