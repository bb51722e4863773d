"""Fakes and conformance suites for the seams."""
