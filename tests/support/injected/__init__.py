"""Documents that try to talk to the model, and models that would listen."""
