"""How good answers are, measured on questions whose pages are known."""
