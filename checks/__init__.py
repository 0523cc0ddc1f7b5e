"""Checks of the supply chain, which `make check` runs."""
