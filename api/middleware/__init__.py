"""The layers that every request passes before its route: limits, headers, authentication. Nothing of one resource."""
