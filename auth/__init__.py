"""Who calls and how much they may ask for: API keys, JWTs, quotas and the token budget. No HTTP."""
