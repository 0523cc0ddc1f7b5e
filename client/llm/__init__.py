"""Model providers: chat, embeddings and reranking, with retries, deadlines and HTTP. No prompts."""
