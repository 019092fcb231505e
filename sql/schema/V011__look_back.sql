-- What was known before: the values that a load replaced or took away stay, and each value tells since when it is known.

ALTER TABLE silver.readings ADD COLUMNS (known_from STRING COMMENT 'Load since which the value is known, null for load_id; later ones said the same');

-- One row: a value that a load replaced or took away. It was known from the end of the load known_from to that of load_id.
-- Where there was no reading in that time, and a rollback brought one back, consumption_kwh is null.
CREATE TABLE IF NOT EXISTS silver.superseded_readings (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour as it was known, kWh; null if there was no reading',
  reading_quality STRING COMMENT 'A: actual, E: estimated, or the sender''s own word; null if the file said nothing',
  source_file STRING COMMENT 'File it came from, path below the landing place',
  brought_by STRING COMMENT 'Load that brought it, see gold.load_history',
  known_from STRING COMMENT 'Load since which it was known',
  date DATE COMMENT 'Local date of interval_start',
  load_id STRING COMMENT 'Load that replaced it or took it away',
  load_date DATE COMMENT 'UTC date of that load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Values of readings that are known no longer, one row per value and load that ended it'
LOCATION '${warehouse}/silver/superseded_readings';

ALTER TABLE ops.publications ADD COLUMNS (
  meterpoints BIGINT COMMENT 'Of silver.readings: meterpoints of which a key was added, changed or removed',
  kwh_before DECIMAL(18,6) COMMENT 'Of silver.readings: energy of the date before, kWh',
  kwh_after DECIMAL(18,6) COMMENT 'Of silver.readings: energy of the date since then, kWh'
);
ALTER TABLE ops.publications ALTER COLUMN readings_changed COMMENT 'Of silver.readings: keys of which consumption or quality is another one';

-- Readings as they were known at a moment (UTC): what loads had brought that had ended by then.
--   SELECT * FROM silver.readings_as_of(TIMESTAMP '2021-11-02 09:00:00') WHERE date = DATE '2021-10-31'
-- Values are kept for LAKE_KEEP_SUPERSEDED_MONTHS; of an earlier moment only what did not change since then is told. Of dates
-- whose readings are kept no longer nothing is told: what was replaced of them would seem to be all that there was.
CREATE OR REPLACE FUNCTION silver.readings_as_of(moment TIMESTAMP COMMENT 'Moment, UTC')
RETURNS TABLE (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC; with meterpoint_id the key',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour as it was known, kWh',
  reading_quality STRING COMMENT 'A: actual, E: estimated, or the sender''s own word; null if the file said nothing',
  source_file STRING COMMENT 'File it came from, path below the landing place',
  load_id STRING COMMENT 'Load that brought it, see gold.load_history',
  date DATE COMMENT 'Local date of interval_start'
)
COMMENT 'Readings as they were known at a moment, one row per meterpoint and half hour'
RETURN
WITH ended AS (SELECT max(load_id) AS load_id FROM ops.loads WHERE finished_at <= moment),
expired AS (
  SELECT max(last_date) AS last_date FROM ops.loads LEFT ANTI JOIN ops.rolled_back_loads USING (load_id)
  WHERE kind = 'expire'
),
superseded AS (
  SELECT then.*, row_number() OVER (
    PARTITION BY meterpoint_id, interval_start_utc ORDER BY known_from DESC, then.load_id
  ) AS newest
  FROM silver.superseded_readings AS then CROSS JOIN ended CROSS JOIN expired
  WHERE then.known_from <= ended.load_id AND then.load_id > ended.load_id
    AND then.load_date >= date_sub(CAST(moment AS DATE), 2)
    AND (expired.last_date IS NULL OR then.date > expired.last_date)
)
SELECT
  meterpoint_id, interval_start, interval_start_utc, consumption_kwh, reading_quality, source_file, brought_by, date
FROM superseded WHERE newest = 1 AND consumption_kwh IS NOT NULL
UNION ALL
SELECT
  now.meterpoint_id, now.interval_start, now.interval_start_utc, now.consumption_kwh, now.reading_quality,
  now.source_file, now.load_id, now.date
FROM silver.readings AS now
CROSS JOIN ended
LEFT ANTI JOIN superseded ON superseded.newest = 1 AND superseded.date = now.date
  AND superseded.meterpoint_id = now.meterpoint_id AND superseded.interval_start_utc = now.interval_start_utc
  AND superseded.known_from >= coalesce(now.known_from, now.load_id)
WHERE coalesce(now.known_from, now.load_id) <= ended.load_id;
