"""What every request passes before its route: limits, headers, authentication. Nothing about one resource."""
