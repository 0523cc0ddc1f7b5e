"""What we do: read, split, find, ask and cite. Knows no service; the ones it needs come in as small Protocols."""
