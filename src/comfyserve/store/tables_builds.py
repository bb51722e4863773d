"""The tables of builds and built images, beside the others."""

from sqlalchemy import Column, Double, Index, Integer, Table, Text

from comfyserve.store.tables import metadata

# `image` is the canonical spec, `result` a JSON document.
build = Table(
    "build",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("image", Text, nullable=False),
    Column("is_fresh", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("result", Text, nullable=False),
)
Index("ix_build_digest", build.c.digest, build.c.created_at)
Index("ix_build_created_at", build.c.created_at)

# What an image's engine said when it was started once, for every deployment of the image.
image_record = Table(
    "image_record",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("snapshot_digest", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("import_times", Text, nullable=False),
)
