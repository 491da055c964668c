"""One page a file, each answering one question."""
