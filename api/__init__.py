"""The HTTP API: it validates requests, submits jobs and reads them back. No retrieval and no model."""
