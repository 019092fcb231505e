-- What counts of the tables in layers (sql/schema/V014), under the names that the tables had before.

DROP TABLE IF EXISTS silver.readings;
CREATE OR REPLACE VIEW silver.readings (
  meterpoint_id COMMENT 'Meterpoint that was read',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  consumption_kwh COMMENT 'Energy used in the half hour, kWh',
  source_file COMMENT 'File it came from, path below the landing place',
  load_id COMMENT 'Load that brought it, see ops.loads',
  reading_quality COMMENT 'What the file says of the reading, A: actual, E: estimated, or its own word; null if it says nothing',
  known_from COMMENT 'Load since which the value is known, null for load_id; later ones said the same',
  date COMMENT 'Local date of interval_start'
) COMMENT 'Half-hourly consumption, one row per meterpoint and half hour' AS
SELECT
  meterpoint_id, interval_start, interval_start_utc, consumption_kwh, source_file, load_id, reading_quality,
  known_from, date
FROM silver.readings_by_layer AS base
LEFT ANTI JOIN silver.readings_by_layer AS late
  ON late.layer = 'late' AND late.date = base.date AND late.meterpoint_id = base.meterpoint_id
WHERE base.layer = 'base'
UNION ALL
SELECT
  meterpoint_id, interval_start, interval_start_utc, consumption_kwh, source_file, load_id, reading_quality,
  known_from, date
FROM silver.readings_by_layer WHERE layer = 'late' AND interval_start_utc IS NOT NULL;

DROP TABLE IF EXISTS silver.contested_readings;
CREATE OR REPLACE VIEW silver.contested_readings (
  meterpoint_id COMMENT 'Meterpoint that was read',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  consumption_kwh COMMENT 'Energy used in the half hour as this file has it, kWh',
  source_file COMMENT 'File it came from, path below the landing place',
  load_id COMMENT 'Load that brought it, see ops.loads',
  reading_quality COMMENT 'What the file says of the reading, A: actual, E: estimated, or its own word; null if it says nothing',
  date COMMENT 'Local date of interval_start'
) COMMENT 'Readings that another file, modified later, has too: they do not count, one row per meterpoint, half hour and file' AS
SELECT
  meterpoint_id, interval_start, interval_start_utc, consumption_kwh, source_file, load_id, reading_quality, date
FROM silver.contested_readings_by_layer AS base
LEFT ANTI JOIN silver.contested_readings_by_layer AS late
  ON late.layer = 'late' AND late.date = base.date AND late.meterpoint_id = base.meterpoint_id
WHERE base.layer = 'base'
UNION ALL
SELECT
  meterpoint_id, interval_start, interval_start_utc, consumption_kwh, source_file, load_id, reading_quality, date
FROM silver.contested_readings_by_layer WHERE layer = 'late' AND interval_start_utc IS NOT NULL;

DROP TABLE IF EXISTS ops.claims;
CREATE OR REPLACE VIEW ops.claims (
  source_file COMMENT 'File, path below the landing place',
  meterpoint_id COMMENT 'Meterpoint that it speaks of',
  load_id COMMENT 'Load that took the version of the file which counts for this meterpoint-day',
  modified_at COMMENT 'Modification time of that version, UTC, at most the start of its load; of several files that have a half hour the latest counts, then the greater path',
  readings COMMENT 'Good readings that it gives of the meterpoint-day',
  date COMMENT 'Local date that it speaks of'
) COMMENT 'Which version of which file counts for which meterpoint-day, one row per file, meterpoint and date' AS
SELECT
  source_file, meterpoint_id, load_id, modified_at, readings, date
FROM ops.claims_by_layer AS base
LEFT ANTI JOIN ops.claims_by_layer AS late
  ON late.layer = 'late' AND late.date = base.date AND late.meterpoint_id = base.meterpoint_id
WHERE base.layer = 'base'
UNION ALL
SELECT
  source_file, meterpoint_id, load_id, modified_at, readings, date
FROM ops.claims_by_layer WHERE layer = 'late' AND source_file IS NOT NULL;

DROP TABLE IF EXISTS mart.daily_meterpoint_consumption;
CREATE OR REPLACE VIEW mart.daily_meterpoint_consumption (
  meterpoint_id COMMENT 'Meterpoint that was read, or has an agreement',
  agreement_id COMMENT 'Agreement that held on the date, null if none did; of several, that with the latest agreement_valid_from, then the highest agreement_id',
  product_id COMMENT 'Product of the agreement, null if none held',
  product_display_name COMMENT 'Name of the product, null if no agreement held',
  is_variable COMMENT 'True if the product''s price may change, null if no agreement held',
  account_id COMMENT 'Account of the agreement, null if none held',
  reading_count COMMENT 'Half hours with a reading; a full date has 48, in March 46, in October 50',
  consumption_kwh COMMENT 'Energy used on the date, kWh; null without readings',
  expected_readings COMMENT 'Half hours of the date: 48, in March 46, in October 50; null if the mart is of an older version',
  first_missing COMMENT 'Start of the first half hour without a reading, local wall-clock time (Europe/London); null if none is missing',
  last_missing COMMENT 'Start of the last half hour without a reading, local wall-clock time (Europe/London); null if none is missing',
  actual_readings COMMENT 'Readings with the quality A; null if the mart is of an older version',
  rated_readings COMMENT 'Readings with any quality; null if the mart is of an older version',
  min_kwh COMMENT 'Least energy of a half hour of the date, kWh; null without readings, or if the mart is of an older version',
  max_kwh COMMENT 'Most energy of a half hour of the date, kWh; null without readings, or if the mart is of an older version',
  date COMMENT 'Local date'
) COMMENT 'Consumption, agreement and completeness, one row per meterpoint and date' AS
SELECT
  meterpoint_id, agreement_id, product_id, product_display_name, is_variable, account_id, reading_count,
  consumption_kwh, expected_readings, first_missing, last_missing, actual_readings, rated_readings, min_kwh, max_kwh,
  date
FROM mart.daily_meterpoint_consumption_by_layer AS base
LEFT ANTI JOIN mart.daily_meterpoint_consumption_by_layer AS late
  ON late.layer = 'late' AND late.date = base.date AND late.meterpoint_id = base.meterpoint_id
WHERE base.layer = 'base'
UNION ALL
SELECT
  meterpoint_id, agreement_id, product_id, product_display_name, is_variable, account_id, reading_count,
  consumption_kwh, expected_readings, first_missing, last_missing, actual_readings, rated_readings, min_kwh, max_kwh,
  date
FROM mart.daily_meterpoint_consumption_by_layer WHERE layer = 'late' AND reading_count IS NOT NULL;

-- A date of which meterpoints alone were corrected has its changes at its late partition.
-- One row: a load and a date that had readings before, of which it added, changed or removed some. kWh.
CREATE OR REPLACE VIEW gold.restatements (
  load_id COMMENT 'Load that restated the date, see gold.load_history',
  restated_at COMMENT 'When the load ended, UTC',
  kind COMMENT 'load; retract, reload, rebuild, erase: a person asked for it; rollback',
  date COMMENT 'Local date of the readings',
  readings_added COMMENT 'Half hours of meterpoints that had no reading before',
  readings_changed COMMENT 'Half hours of meterpoints with another consumption or quality than before',
  readings_removed COMMENT 'Half hours of meterpoints that have no reading any more',
  meterpoint_count COMMENT 'Meterpoints concerned; null for loads of older versions',
  kwh_before COMMENT 'Energy of the date before, kWh; null for loads of older versions',
  kwh_after COMMENT 'Energy of the date since then, kWh; null for loads of older versions'
) COMMENT 'What loads changed of dates that had readings before, one row per load and date' AS
SELECT
  publications.load_id, loads.finished_at, coalesce(loads.kind, loads.status) AS kind,
  CAST(left(publications.partition_value, 10) AS DATE) AS date,
  publications.readings_added, publications.readings_changed, publications.readings_removed,
  publications.meterpoints, publications.kwh_before, publications.kwh_after
FROM ops.publications
JOIN ops.loads ON loads.load_id = publications.load_id
WHERE publications.table_name = 'silver.readings'
  AND publications.readings_added + publications.readings_changed + publications.readings_removed > 0;
