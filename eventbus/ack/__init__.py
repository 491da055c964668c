"""The ledger: what is pending, what may be tried again, and the one door by which a message ends."""
