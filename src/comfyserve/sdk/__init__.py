"""What users import: declarations that compile to specs."""
