"""Where notifications of alerts go, one file a kind."""
