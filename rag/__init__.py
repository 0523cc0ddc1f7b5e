"""What we do with documents and questions, without any outside service: those come in as small Protocols."""
