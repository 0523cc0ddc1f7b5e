"""The id of the deployment whose database this is: one row, written once."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import insert, select

from client.sql.database import Database, DeploymentRow, DuplicateRow


class DeploymentRepository:
    """Reads and writes the id of the deployment. Safe for threads and processes. Raises UploadsUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> str | None:
        """Return the id of the deployment; None if the database has no id yet."""
        with self._database.reading() as connection:
            return connection.execute(select(DeploymentRow.deployment_id)).scalar()

    def write(self, deployment_id: str) -> str:
        """Write the id unless there is one. Returns the id that there is now."""
        with suppress(DuplicateRow), self._database.writing() as connection:  # another process was first
            connection.execute(insert(DeploymentRow).values(place=1, deployment_id=deployment_id))
        return self.read() or deployment_id
