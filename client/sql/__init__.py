"""The SQL database: its tables, migrations and queries. No rules about the rows."""
