"""Writes expected.json: what the feature service departure_delay_v1 must answer on this data, by pandas.

It reads only the committed Parquet, after make_data.py, and joins with pandas.merge_asof. It shares no code with Twofold nor
with the oracle in flightstest, so that three implementations check each other.
"""

import hashlib
import json
import pathlib
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent

# name: (path, key in requests, key column, event time, ttl, {feature: column}); the features are those of departure_delay_v1, in its order.
VIEWS = {
    "weather": (
        "weather", "origin", "origin", "observed_at", pd.Timedelta("2h"),
        {"temp": "temp", "humid": "humid", "wind_dir": "wind_dir", "wind_speed": "wind_speed", "wind_gust": "wind_gust",
         "precip": "precip", "visibility": "visib"},
    ),
    "aircraft": (
        "aircraft/registry.parquet", "tail_number", "tailnum", "registered_at", None,
        {name: name for name in ["year_built", "manufacturer", "model", "engines", "seats", "engine"]},
    ),
    "carrier_delays": (
        "carrier_delays", "carrier", "carrier", "arrived_at", pd.Timedelta("24h"),
        {name: name for name in ["last_arr_delay", "arrivals_3h", "mean_arr_delay_3h", "arrivals_24h",
                                 "mean_arr_delay_24h", "late_share_24h"]},
    ),
    "aircraft_delays": (
        "aircraft_delays.parquet", "tail_number", "tail_number", "arrived_at", pd.Timedelta("7D"),
        {name: name for name in ["last_arrived_at", "last_dest", "last_arr_delay", "last_was_late", "arrivals_7d",
                                 "mean_arr_delay_7d"]},
    ),
}  # fmt: skip

SAMPLED_ROWS = 200
SAMPLE_SEED = 2013

# The instant at which the demo's clock starts, and three requests to make then.
CLOCK_START = pd.Timestamp("2013-12-30T21:00:00Z")
REQUESTS = [
    ("All fresh: flight UA 510 leaves in an hour.", {"origin": "EWR", "tail_number": "N514UA", "carrier": "UA"}),
    ("The aircraft is not in the registry.", {"origin": "LGA", "tail_number": "N527MQ", "carrier": "MQ"}),
    ("A year that is null, and delays of the aircraft that have expired.",
     {"origin": "JFK", "tail_number": "N8894A", "carrier": "9E"}),
]  # fmt: skip


def read(path: str) -> pa.Table:
    return ds.dataset(HERE / "offline" / path).to_table()


def join(flights: pd.DataFrame, view) -> list[int | None]:
    """Returns, for each flight, the number of the feature row that was true at its event_timestamp, or None."""
    path, key, key_column, time, ttl, _ = view
    right = read(path).select([key_column, time]).to_pandas()
    right.columns = ["key", "time"]
    right["row"] = range(len(right))
    left = pd.DataFrame({"key": flights[key], "time": flights.event_timestamp, "flight_row": range(len(flights))})
    left = left[left.key.notna()]
    joined = pd.merge_asof(
        left.sort_values("time"), right.sort_values("time"), on="time", by="key", direction="backward",
        allow_exact_matches=True, tolerance=ttl,
    )  # fmt: skip
    joined = joined.set_index("flight_row").row.reindex(range(len(flights)))
    return [None if pd.isna(row) else int(row) for row in joined]


def plain(column: pa.ChunkedArray | pa.Array) -> list:
    """Python values: times as microseconds since the epoch; a float32 as the shortest number that rounds to it."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_float32(column.type):
        return [None if value is None else float(str(np.float32(value))) for value in column.to_pylist()]
    return column.to_pylist()


def encoded(value, kind: pa.DataType) -> bytes:
    """0 for null; else 1, then the value: integers and times in 8 bytes, FLOAT in 4, DOUBLE in 8, BOOL in 1, all little-endian; STRING
    as its length in 4 bytes and UTF-8."""
    if value is None:
        return b"\0"
    if pa.types.is_string(kind):
        text = value.encode()
        return b"\1" + struct.pack("<I", len(text)) + text
    layout = {pa.bool_(): "?", pa.float32(): "f", pa.float64(): "d"}.get(kind, "q")
    return b"\1" + struct.pack("<" + layout, value)


def training(flights: pd.DataFrame) -> dict:
    """Summaries of all columns over all flights, and the values of some flights."""
    sample = sorted(flights.sample(SAMPLED_ROWS, random_state=SAMPLE_SEED).index.tolist())
    columns, values = {}, {row: [] for row in sample}
    for name, view in VIEWS.items():
        path, _, _, time, _, features = view
        matches = pa.array(join(flights, view), pa.int64())
        table = read(path)
        for feature, column in {**features, "event_timestamp": time}.items():
            joined = table[column].combine_chunks().take(matches)
            digest = hashlib.sha256()
            as_python = plain(joined)
            for value in as_python:
                digest.update(encoded(value, joined.type))
            columns[f"{name}:{feature}"] = {"present": len(joined) - joined.null_count, "sha256": digest.hexdigest()}
            for row in sample:
                values[row].append(as_python[row])
    return {"rows": len(flights), "columns": columns, "sample": [[row, *values[row]] for row in sample]}


def online(request: dict) -> dict:
    """What an online read at CLOCK_START must answer, and until when nothing newer comes in for these entities."""
    answers, event_times, changes = {}, {}, []
    for name, (path, key, key_column, time, ttl, features) in VIEWS.items():
        table = read(path)
        rows = table.filter(pa.compute.equal(table[key_column], request[key])).sort_by(time)
        times = rows[time].to_pandas()
        past = int((times <= CLOCK_START).sum())
        changes += times[past:].tolist()
        status = "NOT_FOUND"
        if past:
            expired = ttl is not None and CLOCK_START - times[past - 1] > ttl
            status = "EXPIRED" if expired else "PRESENT"
            if ttl is not None and not expired:
                changes.append(times[past - 1] + ttl)
        event_times[name] = times[past - 1].isoformat().replace("+00:00", "Z") if past else None
        for feature, column in features.items():
            value = plain(rows[column])[past - 1] if status == "PRESENT" else None
            null = status == "PRESENT" and value is None
            answers[f"{name}:{feature}"] = {"status": "NULL" if null else status, "value": value}
    until = min(changes).isoformat().replace("+00:00", "Z")
    return {"keys": request, "unchanged_until": until, "event_times": event_times, "features": answers}


def dumps(value, indent: str = "") -> str:
    """JSON with one line for each innermost list or object, so that a change can be read."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(item, (dict, list)) for item in inner):
        return json.dumps(value)
    deeper = indent + " "
    if isinstance(value, list):
        items = [deeper + dumps(item, deeper) for item in value]
        return "[\n" + ",\n".join(items) + "\n" + indent + "]"
    items = [f"{deeper}{json.dumps(key)}: {dumps(item, deeper)}" for key, item in value.items()]
    return "{\n" + ",\n".join(items) + "\n" + indent + "}"


def main() -> None:
    flights = pq.read_table(HERE / "flights.parquet").to_pandas()
    expected = {
        "clock_start": CLOCK_START.isoformat().replace("+00:00", "Z"),
        "online": [{"title": title} | online(request) for title, request in REQUESTS],
        "training": training(flights),
    }
    (HERE / "expected.json").write_text(dumps(expected) + "\n")


if __name__ == "__main__":
    main()
