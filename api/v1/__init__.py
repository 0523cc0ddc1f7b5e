"""The routes under /v1, as OpenAI's clients call them: a projection of jobs, their events and their results."""
