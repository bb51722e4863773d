"""The nouns, their state tables and the decisions. Pure: no IO, clock or logging."""
