"""One module a resource, each with its router and its request and response models. No business logic."""
