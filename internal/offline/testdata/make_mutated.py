"""Writes test files of other writers, most of which TestMutants damages: python make_mutated.py, with pyarrow and duckdb installed.

Each has a key "id", a time "ts" and columns of every kind, some of which no feature can be read from.
"""

import datetime
import decimal
import pathlib

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
ROWS = 60


def nulls(values, every):
    return [None if every and i % every == 1 else v for i, v in enumerate(values)]


def table():
    n = range(ROWS)
    start = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
    return pa.table({
        "id": pa.array([i // 2 for i in n], pa.int64()),
        "ts": pa.array([start + datetime.timedelta(hours=i) for i in n], pa.timestamp("us", "UTC")),
        "i32": pa.array(nulls([i * 7 for i in n], 5), pa.int32()),
        "i64": pa.array([i * i * 1_000_003 for i in n], pa.int64()),
        "f32": pa.array(nulls([i / 3 for i in n], 4), pa.float32()),
        "f64": pa.array([i / 7 for i in n], pa.float64()),
        "half": pa.array(nulls([float(i) for i in n], 3), pa.float16()),
        "flag": pa.array(nulls([i % 3 == 0 for i in n], 7), pa.bool_()),
        "word": pa.array(nulls([f"word {i % 5}" for i in n], 6), pa.string()),
        "text": pa.array([f"prefix {i:04d} " + "x" * (i % 9) for i in n], pa.string()),
        "raw": pa.array(nulls([bytes([i, 255]) for i in n], 8), pa.binary()),
        "fixed": pa.array(nulls([bytes([i] * 5) for i in n], 9), pa.binary(5)),
        "dec": pa.array(nulls([decimal.Decimal(i * 11) / 100 for i in n], 4), pa.decimal128(12, 2)),
        "day": pa.array([datetime.date(2013, 1, 1 + i % 28) for i in n], pa.date32()),
        "nanos": pa.array([i * 1_000_000_007 for i in n], pa.timestamp("ns")),
        "list": pa.array(nulls([list(range(i % 4)) for i in n], 5), pa.list_(pa.int64())),
        "words": pa.array(nulls([[f"w{k}" for k in range(i % 3)] for i in n], 7), pa.list_(pa.string())),
        "struct": pa.array([None if i % 6 == 1 else {"a": i, "b": [i / 2] * (i % 3)} for i in n],
                           pa.struct([("a", pa.int32()), ("b", pa.list_(pa.float64()))])),
        "map": pa.array([[(f"k{k}", k) for k in range(i % 3)] for i in n], pa.map_(pa.string(), pa.int32())),
        "deep": pa.array([[[i] * (i % 3)] * (i % 2) for i in n], pa.list_(pa.list_(pa.int32()))),
        "none": pa.array([None] * ROWS, pa.null()),
    })


def by_pyarrow(name, **options):
    pq.write_table(table(), HERE / name, row_group_size=25, data_page_size=120, write_batch_size=10, **options)


def by_duckdb(name, options):
    con = duckdb.connect()
    con.register("t", table().drop_columns(["half", "none"]))
    con.execute(f"copy (select * from t) to '{HERE / name}' (format parquet, {options})")


by_pyarrow("mutated_pyarrow_brotli.parquet", compression="brotli", write_page_index=True, write_page_checksum=True)
by_pyarrow("mutated_pyarrow_int96.parquet", compression="lz4", use_deprecated_int96_timestamps=True, data_page_version="2.0")
by_pyarrow(
    "mutated_pyarrow_delta.parquet", compression="none", use_dictionary=False, data_page_version="2.0", write_page_index=True,
    version="2.6", column_encoding={
        "id": "DELTA_BINARY_PACKED", "ts": "DELTA_BINARY_PACKED", "i32": "BYTE_STREAM_SPLIT", "i64": "BYTE_STREAM_SPLIT",
        "f32": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT", "half": "BYTE_STREAM_SPLIT", "flag": "RLE", "word": "DELTA_BYTE_ARRAY",
        "text": "DELTA_LENGTH_BYTE_ARRAY", "raw": "DELTA_BYTE_ARRAY", "fixed": "BYTE_STREAM_SPLIT", "nanos": "DELTA_BINARY_PACKED",
        "list.list.element": "DELTA_BINARY_PACKED", "words.list.element": "DELTA_BYTE_ARRAY"})
by_duckdb("mutated_duckdb_v1.parquet", "compression snappy, row_group_size 2048, parquet_version v1")
by_duckdb("mutated_duckdb_v2.parquet", "compression uncompressed, row_group_size 2048, parquet_version v2")
# An encoding that is not read.
pq.write_table(table().select(["id", "ts", "fixed"]).slice(0, 2), HERE / "pyarrow_fixed_delta.parquet", use_dictionary=False, compression="none",
               column_encoding={"id": "PLAIN", "ts": "PLAIN", "fixed": "DELTA_BYTE_ARRAY"})
# Pages with checksums.
for version, compression, dictionary in [("1.0", "snappy", True), ("2.0", "zstd", True), ("1.0", "none", False), ("2.0", "none", False)]:
    name = f"checksums_v{version[0]}_{compression}.parquet"
    pq.write_table(table().select(["id", "ts", "i32", "f64", "word", "flag", "list"]), HERE / name, row_group_size=40, data_page_size=120, write_batch_size=10,
                   write_page_checksum=True, data_page_version=version, compression=compression, use_dictionary=dictionary, write_statistics=False)
