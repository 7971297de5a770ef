"""Tags of sound files, taken apart and put together in a way that changes one field alone."""
