-- Tables in layers, so that a correction need not write a date anew. The base has the date as it was written last; the late
-- layer has the meterpoints that were corrected since then, each whole, and what the base says of them does not count. A
-- meterpoint that has no rows any more is one late row, of its id alone. The files stay where they are: jobs/upgrade.py has
-- these tables name them, and sql/gold/V023 makes the old names views of what counts.

CREATE TABLE IF NOT EXISTS silver.readings_by_layer (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC; null in the late row of a meterpoint that has no readings any more',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour, kWh',
  source_file STRING COMMENT 'File it came from, path below the landing place',
  load_id STRING COMMENT 'Load that brought it, see ops.loads',
  reading_quality STRING COMMENT 'What the file says of the reading, A: actual, E: estimated, or its own word; null if it says nothing',
  known_from STRING COMMENT 'Load since which the value is known, null for load_id; later ones said the same',
  date DATE COMMENT 'Local date of interval_start',
  layer STRING COMMENT 'base, or late: meterpoints of the date that were corrected since the base was written'
) USING parquet PARTITIONED BY (date, layer)
COMMENT 'How silver.readings is stored; query that one'
LOCATION '${warehouse}/silver/readings';

CREATE TABLE IF NOT EXISTS silver.contested_readings_by_layer (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC; null in the late row of a meterpoint that has none any more',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour as this file has it, kWh',
  source_file STRING COMMENT 'File it came from, path below the landing place',
  load_id STRING COMMENT 'Load that brought it, see ops.loads',
  reading_quality STRING COMMENT 'What the file says of the reading, A: actual, E: estimated, or its own word; null if it says nothing',
  date DATE COMMENT 'Local date of interval_start',
  layer STRING COMMENT 'base, or late: meterpoints of the date that were corrected since the base was written'
) USING parquet PARTITIONED BY (date, layer)
COMMENT 'How silver.contested_readings is stored; query that one'
LOCATION '${warehouse}/silver/contested_readings';

CREATE TABLE IF NOT EXISTS ops.claims_by_layer (
  source_file STRING COMMENT 'File, path below the landing place; null in the late row of a meterpoint of which no file speaks any more',
  meterpoint_id STRING COMMENT 'Meterpoint that it speaks of',
  load_id STRING COMMENT 'Load that took the version of the file which counts for this meterpoint-day',
  modified_at TIMESTAMP COMMENT 'Modification time of that version, UTC, at most the start of its load; of several files that have a half hour the latest counts, then the greater path',
  readings INT COMMENT 'Good readings that it gives of the meterpoint-day',
  date DATE COMMENT 'Local date that it speaks of',
  layer STRING COMMENT 'base, or late: meterpoints of the date that were corrected since the base was written'
) USING parquet PARTITIONED BY (date, layer)
COMMENT 'How ops.claims is stored; query that one'
LOCATION '${warehouse}/ops/claims';
