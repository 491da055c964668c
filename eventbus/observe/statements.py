"""What StoreWriter says to SQLite, one statement for each kind of row; the values come in the order of the columns."""

RUN = (
    "INSERT INTO runs (run_id, started_wall_s, status, url, topic, settings, pid, name, environment)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
STATUS = "UPDATE runs SET status = ? WHERE run_id = ?"
END = "UPDATE runs SET status = ?, ended_wall_s = ?, error = ?, report = ?, verdict = ? WHERE run_id = ?"
SAMPLE = (
    "INSERT INTO samples (run_id, wall_s, elapsed_s, offered, target_rate, loop_lag_s, schedule_lag_s, warming_up,"
    " snapshot, whole, resident_bytes, store_delay_s, round_trip_s)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
EVENT = "INSERT INTO events (run_id, wall_s, kind, text) VALUES (?, ?, ?, ?)"
FAILED = (
    "INSERT INTO failed (run_id, wall_s, message_id, topic, outcome, late, attempts, error_class, error_kind,"
    " error_text, trace_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
GROUP = (
    "INSERT INTO failure_groups (run_id, kind, topic, outcome, text, count, first_wall_s, last_wall_s, message_id,"
    " trace_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count,"
    " first_wall_s = min(first_wall_s, excluded.first_wall_s), last_wall_s = max(last_wall_s, excluded.last_wall_s),"
    " message_id = excluded.message_id, trace_id = excluded.trace_id"
)
ALERT = (
    "INSERT INTO alerts (run_id, wall_s, rule, firing, value, threshold, text, state, previous, severity, muted,"
    " labels) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
