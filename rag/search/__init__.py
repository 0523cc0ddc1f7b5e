"""From a question to passages: rank, fuse, rerank and join neighbours. The engines are in client/qdrant."""
