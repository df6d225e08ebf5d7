"""Copies a Rucio database from SQLite into an empty one, with Rucio's own code: its schema, and its models for every row.

usage: RUCIO_CONFIG=rucio.cfg copy_database.py FILE

[database] of the rucio.cfg names the database to fill: its `default`, and its `schema` if it has one. Needs the PyPI package
`rucio` (seen with 41.5.1) with its extra `postgresql`.
"""
import sys

from rucio.db.sqla import models
from rucio.db.sqla.session import get_engine
from sqlalchemy import create_engine, insert, inspect, select

PAGE = 2000


def main() -> None:
    models.register_models(get_engine())
    schema = models.BASE.metadata.schema
    source = create_engine(f'sqlite:///{sys.argv[1]}').execution_options(schema_translate_map={schema: None})
    there = set(inspect(source).get_table_names())
    with source.connect() as reader, get_engine().begin() as writer:
        for table in models.BASE.metadata.sorted_tables:
            if table.name in there:
                rows = [dict(row._mapping) for row in reader.execute(select(table))]
                for start in range(0, len(rows), PAGE):
                    writer.execute(insert(table), rows[start:start + PAGE])


main()
