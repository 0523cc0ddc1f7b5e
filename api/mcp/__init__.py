"""The MCP server at /mcp, for assistants: questions, searches and uploads as tools, pages as resources."""
