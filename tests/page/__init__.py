"""Tests of the page in a real Chromium, against the real service with a stub of a model behind it."""
