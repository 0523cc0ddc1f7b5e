"""A trial of the containers: docs/deployment.md step by step on a real Docker daemon. `make containers` runs it."""
